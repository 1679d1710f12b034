"""Which of lm-eval's tasks there are in a language, whatever way it is spelled in their names."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from langcodes import Language, standardize_tag

from maec.errors import InputError

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "math": ("mgsm_direct_{}", "mgsm_native_cot_{}"),
    "science": ("arc_{}", "m_mmlu_{}", "global_mmlu_full_{}_stem"),
    "other": ("belebele_{}", "global_mmlu_full_{}", "hellaswag_{}", "mmlu_prox_{}", "xnli_{}"),
}
"""Tasks that exist in many languages, by the ability that they ask for."""

_SPELLED = re.compile(r"[a-z]{2,3}(_[A-Za-z]{4})?(_[A-Za-z]{2})?")
"""How lm-eval writes a language in a task's name: sw, swh_Latn, sw_ke."""


def tasks_in(code: str) -> dict[str, list[str]]:
    """By family of ``FAMILIES``, the tasks that the installed lm-eval has for a language.

    Only files named like a family's are read: lm-eval's own index takes ten seconds to build.

    Raises:
        InputError: lm-eval is not installed.
    """
    wanted = _written(code)
    files = {path.stem.removeprefix("_"): path for path in sorted(_folder().rglob("*.yaml"))}

    def is_wanted(name: str, family: str) -> bool:
        before, after = family.split("{}")
        if not (name.startswith(before) and name.endswith(after)):
            return False
        spelled = name.removeprefix(before).removesuffix(after)
        if not _SPELLED.fullmatch(spelled) or _written(spelled) != wanted:
            return False
        text = files[name].read_text(encoding="utf-8")
        return re.search(rf"^(task|group): *{name}$", text, re.MULTILINE) is not None

    return {
        family: [name for name in files if is_wanted(name, family)]
        for families in FAMILIES.values()
        for family in families
    }


def _written(tag: str) -> tuple[str | None, str | None]:
    """Language and script that ``tag`` means: ``sw``, ``swa`` and ``swh_Latn`` mean the same."""
    meant = Language.get(standardize_tag(tag, macro=True)).maximize()
    return meant.language, meant.script


def _folder() -> Path:
    spec = importlib.util.find_spec("lm_eval")  # finds it without importing it
    if spec is None or not spec.submodule_search_locations:
        raise InputError("lm-eval is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0], "tasks")
