"""Everybody who takes part, by the name in the table."""

from benchmarks.cases import Contender
from benchmarks.rivals import (
    diffrax_best,
    jax_scan,
    numpy_loop,
    ours,
    torch_by_hand,
    torch_naive,
    torchsde_best,
    torchsde_default,
)

OURS = "ctcontrol"

CONTENDERS: dict[str, Contender] = {
    OURS: ours.prepare,
    "torch, naive loop": torch_naive.prepare,
    "torch, by hand": torch_by_hand.prepare,
    "NumPy loop": numpy_loop.prepare,
    "torchsde": torchsde_default.prepare,
    "torchsde, own noise": torchsde_best.prepare,
    "JAX scan": jax_scan.prepare,
    "diffrax": diffrax_best.prepare,
}
