"""The named parts that methods are put together from: Θ_o, corpora, and runs on them.

Ability text exists here in the pivot language alone. :meth:`Parts.translated_ability` is there for
methods that declare it (``t-cpt``) and raises for every other, so that no method can use ability
data of a target language by mistake.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.steps import Corpus, Step
from maec.errors import InputError
from maec.settings import TrainSettings


@dataclass(frozen=True)
class Parts:
    """What a method may use for one seed of a matrix.

    ``generator`` gives the identity of what writes the text of a language: the same string, the
    same text.
    """

    base: Step
    pivot: str
    languages: tuple[str, ...]
    documents: Mapping[str, int]
    training: Mapping[str, TrainSettings]
    seed: int
    generator: Callable[[str], str]
    where: str
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
                f"{self.where}: training: there are no settings for the role '{role}', which a "
                "method of this matrix needs; add them"
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
        )

    def language_models(self) -> dict[str, Step]:
        """Θ_{Lj} for every target language, everything trainable."""
        return {
            language: self.train("language", [self.general(language)])
            for language in self.languages
        }

    def languages_model(self) -> Step:
        """Θ_o trained on the general corpora of all target languages together."""
        return self.train("languages", [self.general(language) for language in self.languages])

    def one_language_model(self) -> Step:
        """One model for all target languages: Θ_o without any, Θ_{Lj} of one, else all mixed."""
        models = list(self.language_models().values())
        match len(models):
            case 0:
                return self.base
            case 1:
                return models[0]
            case _:
                return self.languages_model()

    def ability_text(self, abilities: Sequence[str]) -> list[Corpus]:
        """C_{L0,A} of each ability, with C_{L0} to mix in."""
        return [*[self.ability(ability) for ability in abilities], self.pivot_general()]

    def ability_model(self, abilities: Sequence[str], *, rate: float = 1.0) -> Step:
        """Θ_o trained on C_{L0,A} of all ``abilities`` with C_{L0} mixed in, all trainable."""
        return self.train("ability", self.ability_text(abilities), rate=rate)

    def ability_models(self, abilities: Sequence[str], *, rate: float = 1.0) -> dict[str, Step]:
        """One such model for each of ``abilities``."""
        return {ability: self.ability_model([ability], rate=rate) for ability in abilities}

    def _corpus(self, size: str, language: str, ability: str | None = None) -> Corpus:
        if size not in self.documents:
            raise InputError(
                f"{self.where}: documents: '{size}' is missing, which a method of this matrix needs"
            )
        return Corpus(
            language=language,
            documents=self.documents[size],
            seed=self.seed,
            generator=self.generator(language),
            ability=ability,
        )
