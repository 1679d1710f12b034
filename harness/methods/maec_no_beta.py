"""MAEC without subtracting what training on the pivot alone does (β = 0)."""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, nothing subtracted", family="ablation", data="C_Lj + C_L0,A")

SEARCH = maec.SEARCH

build = fixed(maec.build, beta=0.0)
