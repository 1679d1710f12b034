"""MAEC without its mask: every parameter is a key neuron (k1 = 1)."""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, every parameter a key neuron", family="ablation", data="C_Lj + C_L0,A")

# with every parameter a key neuron, how important each is does not matter
SEARCH = {name: where for name, where in maec.SEARCH.items() if name != "importance"}

build = fixed(maec.build, k1=1.0)
