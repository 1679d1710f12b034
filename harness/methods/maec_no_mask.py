"""MAEC without its mask: every parameter is a key neuron (k1 = 1)."""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, every parameter a key neuron", family="ablation", data="C_Lj + C_L0,A")

SEARCH = maec.SEARCH

build = fixed(maec.build, k1=1.0)
