"""The file of a new language: all that libraries know of it, and what is still missing."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill, indent

import yaml
from langcodes import Language as Tag
from langcodes import LanguageTagError, standardize_tag, tag_is_valid
from langcodes.data_dicts import LIKELY_SUBTAGS
from language_data.names import code_to_names

from harness import languages
from harness.embedded import lexicon as embedded
from harness.languages import Language
from harness.lm_eval_languages import FAMILIES, tasks_in
from maec.errors import InputError, nearest
from maec.folder import write_file
from maec.language import ISO_639_1, language_code
from maec.reading import parse_yaml, read_text

HIGH = "ar de en es fr ja zh ca cs eu fa fi hi hr hu it ko nl pl pt ru sr sv tr vi"
"""Classes 5 and 4 of the taxonomy of Joshi et al. 2020, languages with much text and much of it
labelled. All others count as low-resource, as Bengali (3) and Telugu (1) do in the MAEC paper."""

TAXONOMY = "Joshi et al. 2020 (https://aclanthology.org/2020.acl-main.560)"

SCRIPTS = {"Hans": "Han", "Hant": "Han", "Beng": "Bengali"}
"""Scripts that CLDR does not call as Unicode does."""

NO_LANGUAGE = ("mis", "mul", "zxx")
"""ISO 639's codes for uncoded languages, several, and none."""


@dataclass(frozen=True)
class Added:
    """A language file that was written; ``missing`` is what it lacks, in words."""

    path: Path
    language: Language
    tasks: Mapping[str, list[str]]
    missing: list[str]

    def lines(self) -> list[str]:
        """What was done, for people."""
        path, new = self.path.resolve(), self.language
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return [
            f"{shown}: {new.name}, {new.native_name}, {new.script} script, {new.resource} resource",
            f"lm-eval {_version('lm-eval')} has: {_listed(self.tasks, *FAMILIES)}",
            *(f"missing: {what}" for what in self.missing),
        ]


def add(
    code: str,
    *,
    name: str | None = None,
    native_name: str | None = None,
    script: str | None = None,
    resource: str | None = None,
    lexicon: Path | None = None,
    out: Path | None = None,
) -> Added:
    """Write the file of the language ``code``; what is given wins over what libraries know.

    ``lexicon`` is a file of what shall stand under ``lexicon``; ``out`` is where to write, by
    default where the harness looks.

    Raises:
        InputError: ``code`` is no code of a language, or not in its usual form; the file exists or
            cannot be written; the lexicon does not fit.
    """
    if resource not in (None, "high", "low"):
        raise InputError(f"--resource: '{resource}'; allowed are high, low")
    tag = _tag(code)
    path = out or languages.path_of(code)
    _require_new(path)
    given = {"name": name, "native_name": native_name, "script": script, "resource": resource}
    given = {key: value for key, value in given.items() if value is not None}
    language = replace(_known(tag, given), **given)
    tasks = tasks_in(code)
    words = _lexicon_text(language, lexicon) if lexicon else ""
    write_file(path, _text(language, tasks, given) + words, "--out")
    return Added(path, language, tasks, list(_missing(tag, language, tasks, given, bool(words))))


def _tag(code: str) -> Tag:
    """``code`` as langcodes has it.

    Raises:
        InputError: it is no code of a language, or there is a more usual one.
    """
    try:
        valid = language_code(code) == standardize_tag(code, macro=True) and tag_is_valid(code)
    except ValueError:
        valid = False
    if not valid or Tag.get(code).language in (None, *NO_LANGUAGE):
        raise InputError(
            f"CODE: '{code}' is no usual code of a language{_meant(code)} (allowed are those of "
            "BCP 47, such as es, sw, yue, zh-Hant or pt-BR)"
        )
    return Tag.get(code)


def _meant(code: str) -> str:
    """The clause "; did you mean 'sw' (Swahili)?", or ""."""
    try:
        usual = standardize_tag(code, macro=True)
        if usual != code and tag_is_valid(usual):
            return f"; did you mean '{usual}' ({Tag.get(usual).display_name()})?"
    except LanguageTagError:
        pass
    try:
        found = Tag.find(code)
        return f"; did you mean '{found}' ({found.display_name()})?"
    except LookupError:
        return nearest(code, ISO_639_1)


def _known(tag: Tag, given: Mapping[str, str]) -> Language:
    """What the libraries know.

    Raises:
        InputError: they lack something that is not given either.
    """
    named = bool(code_to_names(tag.language))
    if not named and "name" not in given:
        raise InputError(f"CODE: no library has a name for '{tag}'; give one with --name")
    likely = any(broader in LIKELY_SUBTAGS for broader in tag.broader_tags() if broader != "und")
    if not (likely or tag.script or "script" in given):
        raise InputError(
            f"CODE: no library knows how {tag.display_name()} is written; give it with --script, "
            "such as Latin or Cyrillic"
        )
    written = tag.maximize()
    return Language(
        code=str(tag),
        name=tag.display_name(),
        native_name=tag.autonym() if named else given["name"],
        script=SCRIPTS.get(written.script, written.script_name()),
        resource="high" if tag.language in HIGH.split() else "low",
    )


def _text(language: Language, tasks: Mapping[str, list[str]], given: Mapping[str, str]) -> str:
    """The head of the file, with where it comes from."""
    why = "" if "resource" in given else f" Resource level: {_reason(language)}."
    notes = [
        f"Names and script: langcodes {_version('langcodes')} with language_data "
        f"{_version('language_data')}.{why}",
        *(
            f"lm-eval {_version('lm-eval')}, {ability}: {_listed(tasks, ability)}."
            for ability in FAMILIES
        ),
    ]
    comments = "\n".join(
        fill(note, 99, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
        for note in notes
    )
    head = {key: value for key, value in vars(language).items() if key != "code"}
    return f"{comments}\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False)}"


def _listed(tasks: Mapping[str, list[str]], *abilities: str) -> str:
    names = [name for ability in abilities for f in FAMILIES[ability] for name in tasks[f]]
    return ", ".join(names) or "none"


def _reason(language: Language) -> str:
    level = "high, as classes 4 and 5" if language.resource == "high" else "low, as classes 0 to 3"
    return f"{level} of {TAXONOMY}"


def _lexicon_text(language: Language, file: Path) -> str:
    """What goes under ``lexicon``, comments and all, after the checks of the embedded world."""
    try:
        text = read_text(file)
        said = parse_yaml(text, file)
    except InputError as error:
        raise InputError(f"--lexicon: {error}") from None
    if not isinstance(said, dict):
        raise InputError(f"--lexicon: {file}: must be a mapping with words, patterns and so on")
    if said.get("pretrained"):
        raise InputError(
            f"--lexicon: {file}: pretrained: the base was not trained on {language.name}; leave "
            "the key out"
        )
    embedded.checked(language, said, file)
    return f"\nlexicon:\n{indent(text.rstrip(), '  ')}\n"


def _missing(
    tag: Tag,
    language: Language,
    tasks: Mapping[str, list[str]],
    given: Mapping[str, str],
    has_lexicon: bool,
) -> Iterator[str]:
    own = language.native_name != language.name or str(tag) in code_to_names(tag.language)
    if "native_name" not in given and not own:
        yield "its own name for itself (the English one stands in)"
    asked = [family for ability in ("math", "science") for family in FAMILIES[ability]]
    if lacking := [family.format(language.code) for family in asked if not tasks[family]]:
        yield f"{', '.join(lacking)}, which lm-eval does not have"
    if not has_lexicon:
        yield "a lexicon, without which the embedded world cannot use it (--lexicon FILE)"


def _require_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: exists already; edit it, or name another file with --out")


def _version(package: str) -> str:
    return importlib.metadata.version(package)
