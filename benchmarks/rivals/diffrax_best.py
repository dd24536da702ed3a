"""diffrax at its best: the batch inside the state, noise that is not remembered, no checks."""

import os
from typing import Any

os.environ.setdefault("EQX_ON_ERROR", "nan")

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array

from benchmarks.cases import Case, Rollout, Run
from benchmarks.rivals._jax import dtype_of, first, jax_dynamics


def prepare(case: Case) -> Run | None:
    """`diffeqsolve` with Euler's method and `UnsafeBrownianPath`, jitted."""
    if case.cost:
        return None
    act, drift, variance = jax_dynamics(case)
    dtype, shape = dtype_of(case), (case.batch, case.model.dimension)

    def noise(t: Any, y: Any, args: object) -> lineax.AbstractLinearOperator:
        return lineax.DiagonalLinearOperator(
            jnp.broadcast_to(jnp.sqrt(variance(t)).astype(dtype), shape)
        )

    @jax.jit
    def solve(key: Array) -> Array:
        start, noises = jax.random.split(key)
        path = diffrax.UnsafeBrownianPath(jax.ShapeDtypeStruct(shape, dtype), noises)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: drift(t, y, act(t, y))),
            diffrax.ControlTerm(noise, path),
        )
        end = jnp.asarray(case.model.horizon, dtype)
        solution = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            jnp.zeros((), dtype),
            end,
            None,
            first(case, start),
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.StepTo(jnp.linspace(0, end, case.steps + 1, dtype=dtype)),
            adjoint=diffrax.ForwardMode(),
            max_steps=case.steps + 1,
        )
        assert solution.ys is not None
        return solution.ys[0]

    return lambda seed: Rollout(np.asarray(solve(jax.random.key(seed))))
