"""MAEC without selection: every tensor takes R(A) (k2 = 1)."""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, every tensor selected", family="ablation", data="C_Lj + C_L0,A")

SEARCH = maec.SEARCH

build = fixed(maec.build, k2=1.0)
