"""Which of lm-eval's tasks there are in a language, whatever way it is spelled in their names."""

import re
from collections.abc import Mapping

from langcodes import Language, standardize_tag

from harness.tasks import builtin

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

    Raises:
        InputError: lm-eval is not installed.
    """
    wanted = _written(code)
    names = sorted(builtin.index())

    def is_wanted(name: str, family: str) -> bool:
        before, after = family.split("{}")
        if not (name.startswith(before) and name.endswith(after)):
            return False
        spelled = name.removeprefix(before).removesuffix(after)
        return bool(_SPELLED.fullmatch(spelled)) and _written(spelled) == wanted

    return {
        family: [name for name in names if is_wanted(name, family)]
        for families in FAMILIES.values()
        for family in families
    }


def _written(tag: str) -> tuple[str | None, str | None]:
    """Language and script that ``tag`` means: ``sw``, ``swa`` and ``swh_Latn`` mean the same."""
    meant = Language.get(standardize_tag(tag, macro=True)).maximize()
    return meant.language, meant.script
