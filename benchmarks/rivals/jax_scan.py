"""A scan over steps, compiled by JAX, with its default generator."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.cases import Case, Rollout, Run
from benchmarks.rivals._jax import dtype_of, first, jax_dynamics


def prepare(case: Case) -> Run:
    """The jitted loop; the first call compiles it."""
    act, drift, variance = jax_dynamics(case)
    dtype, h = dtype_of(case), case.step

    @jax.jit
    def loop(key: Array) -> tuple[Array, Array]:
        start, noises = jax.random.split(key)
        x = first(case, start)

        def step(
            carry: tuple[Array, Array], now: tuple[Array, Array]
        ) -> tuple[tuple[Array, Array], None]:
            (x, total), (t, key) = carry, now
            a = act(t, x)
            if case.cost:
                total = total - ((x * x).sum(1) + (a * a).sum(1)) * h
            noise = jax.random.normal(key, x.shape, dtype)
            x = x + drift(t, x, a) * h + jnp.sqrt(variance(t) * h).astype(dtype) * noise
            return (x, total), None

        times = (jnp.arange(case.steps) * h).astype(dtype)
        keys = jax.random.split(noises, case.steps)
        (x, total), _ = jax.lax.scan(step, (x, jnp.zeros(case.batch, dtype)), (times, keys))
        return x, total - (x * x).sum(1)

    def run(seed: int) -> Rollout:
        x, total = (np.asarray(part) for part in loop(jax.random.key(seed)))
        return Rollout(x, total if case.cost else None)

    return run
