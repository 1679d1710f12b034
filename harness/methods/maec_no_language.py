"""MAEC without language weights (λ = 0): what R(A) does on its own."""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, no language weights", family="ablation", data="C_L0,A")

SEARCH = maec.SEARCH

build = fixed(maec.build, language_scale=0.0)
