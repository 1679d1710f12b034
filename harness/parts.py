"""The named parts that methods are put together from: Θ_o, corpora, and runs on them.

Ability text exists here in the pivot language alone. :meth:`Parts.translated_ability` is there for
methods that declare it (``t-cpt``) and raises for every other, so that no method can use ability
data of a target language by mistake.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.steps import Corpus, Place, Step
from maec.errors import InputError
from maec.settings import TrainSettings

FindText = Callable[[str, str, str | None], tuple[Mapping[str, Any], Place]]
"""The source of a kind of corpus, language and ability, and where it lies."""


@dataclass(frozen=True)
class Given:
    """Checkpoints that stand for trained ones: Θ_Lj, Θ_A,L0 and, where there is one, Θ_L0."""

    languages: Mapping[str, Step] = field(default_factory=dict)
    abilities: Mapping[str, Step] = field(default_factory=dict)
    pivots: Mapping[str, Step] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a method may use for one seed of a matrix.

    ``generator`` gives the identity of what writes the text of a language in the embedded world:
    the same string, the same text. ``text``, where there is one, finds text of another world
    instead. ``given`` are checkpoints that need not be trained, ``processes`` how many share each
    training.
    """

    base: Step
    pivot: str
    languages: tuple[str, ...]
    documents: Mapping[str, int]
    training: Mapping[str, TrainSettings]
    seed: int
    generator: Callable[[str], str]
    where: str
    tokens: Mapping[str, int] = field(default_factory=dict)
    text: FindText | None = None
    given: Given = Given()
    processes: int = 1
    method: str = "a method"
    translations: bool = False

    def with_translations(self) -> "Parts":
        return replace(self, translations=True)

    def general(self, language: str) -> Corpus:
        """C_L of a target language."""
        return self._corpus("general", language)

    def pivot_general(self) -> Corpus:
        """C_{L0}: plain text of the pivot language."""
        return self._corpus("pivot", self.pivot)

    def ability(self, ability: str) -> Corpus:
        """C_{L0,A}: ability text, in the pivot language only."""
        return self._corpus("ability", self.pivot, ability)

    def translated_ability(self, ability: str, language: str) -> Corpus:
        """C_{Lj,A}: ability text in a target language, for an upper reference alone.

        Raises:
            PermissionError: the method does not declare ``translated=True``.
        """
        if not self.translations:
            raise PermissionError(
                "this method uses ability data of a target language without declaring it "
                "(Info(translated=True)); the comparison with MAEC would not be fair"
            )
        return self._corpus("translated", language, ability)

    def train(
        self,
        role: str,
        corpora: Sequence[Corpus],
        *,
        start: Step | None = None,
        mask: Step | None = None,
        rate: float = 1.0,
        **overrides: Any,
    ) -> Step:
        """Continual pre-training from ``start`` (Θ_o when absent) with the role's settings.

        ``rate`` multiplies the role's learning rate.
        """
        if role not in self.training:
            raise InputError(
                f"{self.where}: training: there are no settings for the role '{role}', which "
                f"{self.method} needs; add them, or leave the method out"
            )
        settings = self.training[role]
        changed = {"learning_rate": settings.learning_rate * rate, "seed": self.seed, **overrides}
        settings = settings.model_copy(update=changed)
        languages = "+".join(dict.fromkeys(corpus.language for corpus in corpora))
        abilities = "+".join(dict.fromkeys(c.ability for c in corpora if c.ability))
        return Step(
            kind="train",
            settings={
                "training": settings.model_dump(mode="json"),
                "corpora": [corpus.as_json() for corpus in corpora],
            },
            inputs={"start": start or self.base} | ({"mask": mask} if mask else {}),
            label=f"{role} {abilities} {languages}".replace("  ", " "),
            places=places(corpora),
            processes=self.processes,
        )

    def language_models(self) -> dict[str, Step]:
        """Θ_{Lj} for every target language, everything trainable, or the checkpoint given."""
        return {language: self._language_model(language) for language in self.languages}

    def _language_model(self, language: str) -> Step:
        given = self.given.languages.get(language)
        return given or self.train("language", [self.general(language)])

    def languages_model(self) -> Step:
        """Θ_o trained on the general corpora of all target languages together; of none, Θ_o.

        Of one language that is the checkpoint given for it, if there is one.

        Raises:
            InputError: there are checkpoints for some of several languages, which are not one.
        """
        if not self.languages:
            return self.base
        found = [self.given.languages[c] for c in self.languages if c in self.given.languages]
        if not found:
            return self.train("languages", [self.general(language) for language in self.languages])
        if len(self.languages) == 1:
            return found[0]
        raise InputError(
            f"{self.where}: checkpoints.languages: {self.method} needs one model of all target "
            "languages, and these are one each; give it `scope: language`, or leave it out"
        )

    def one_language_model(self) -> Step:
        """One model for all target languages: Θ_o without any, Θ_{Lj} of one, else all mixed."""
        one = len(self.languages) == 1
        return self._language_model(self.languages[0]) if one else self.languages_model()

    def ability_text(self, abilities: Sequence[str]) -> list[Corpus]:
        """C_{L0,A} of each ability, with C_{L0} to mix in."""
        return [*[self.ability(ability) for ability in abilities], self.pivot_general()]

    def ability_model(self, abilities: Sequence[str], *, rate: float = 1.0) -> Step:
        """Θ_o trained on C_{L0,A} of all ``abilities`` with C_{L0} mixed in, all trainable.

        Of one ability that is the checkpoint given for it, if there is one.

        Raises:
            InputError: there are checkpoints for some of several abilities, which are not one; or
                a ``rate`` for one that is not trained here.
        """
        found = [ability for ability in abilities if ability in self.given.abilities]
        if not found:
            return self.train("ability", self.ability_text(abilities), rate=rate)
        if len(abilities) == 1:
            return self.given_ability(found[0], rate=rate)
        raise InputError(
            f"{self.where}: checkpoints.abilities: {self.method} needs one model of "
            f"{' and '.join(abilities)}, and '{found[0]}' has a checkpoint of its own; give it "
            "another scope than 'everything', or leave it out"
        )

    def given_ability(self, ability: str, *, rate: float = 1.0) -> Step:
        """The checkpoint that stands for Θ_{A,L0}.

        Raises:
            InputError: a ``rate`` other than 1: its training is over.
        """
        if rate != 1.0:
            raise InputError(
                f"{self.where}: rate {rate} of {self.method}: the model of '{ability}' is a "
                "checkpoint, which is not trained here; leave the rate out"
            )
        return self.given.abilities[ability]

    def ability_models(self, abilities: Sequence[str], *, rate: float = 1.0) -> dict[str, Step]:
        """One such model for each of ``abilities``."""
        return {ability: self.ability_model([ability], rate=rate) for ability in abilities}

    def _corpus(self, kind: str, language: str, ability: str | None = None) -> Corpus:
        documents, tokens = self.documents.get(kind), self.tokens.get(kind)
        if self.text is None:
            found: dict[str, Any] = {"generator": self.generator(language)}
            also = ""
        else:
            try:
                source, place = self.text(kind, language, ability)
            except InputError as error:
                raise InputError(f"{error} ({self.method} needs it)") from None
            found = {"source": source, "place": place, "tokens": tokens}
            also = ", and so is tokens"
        if documents is None and found.get("tokens") is None:
            raise InputError(
                f"{self.where}: documents: '{kind}' is missing{also}, which {self.method} needs"
            )
        return Corpus(
            language=language, documents=documents, seed=self.seed, ability=ability, **found
        )


def places(corpora: Sequence[Corpus]) -> Sequence[Place]:
    """What a step that reads ``corpora`` has to know beside what is in its key."""
    return [corpus.place for corpus in corpora if corpus.source is not None]
