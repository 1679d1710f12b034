"""Θ_o as it is."""

from collections.abc import Sequence

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Base model", family="reference", data="none")


def build(parts: Parts, abilities: Sequence[str]) -> Step:
    return parts.base
