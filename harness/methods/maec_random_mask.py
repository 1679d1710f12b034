"""MAEC with as many key neurons, drawn at random: does it matter which ones?"""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, random key neurons", family="ablation", data="C_Lj + C_L0,A")

SEARCH = maec.SEARCH

build = fixed(maec.build, importance="random")
