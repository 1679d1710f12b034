"""Θ_o as it is."""

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Base model", family="reference", data="none")


def build(parts: Parts, ability: str) -> Step:
    return parts.base
