"""MAEC with embeddings and output layer kept out of the key neurons."""

from harness.methods import Info, fixed, maec

INFO = Info(title="MAEC, embeddings frozen", family="ablation", data="C_Lj + C_L0,A")

SEARCH = maec.SEARCH

build = fixed(maec.build, freeze_embeddings=True)
