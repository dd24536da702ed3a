"""A model in JAX."""

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.cases import Case
from benchmarks.models import Backend, Dynamics, dynamics

jax.config.update("jax_enable_x64", True)  # dtypes are always said


def dtype_of(case: Case) -> jnp.dtype:
    """The precision of a case."""
    return jnp.dtype(case.dtype)


def jax_dynamics(case: Case) -> Dynamics:
    """The model, with times that are traced."""
    return dynamics(
        case.model,
        Backend(
            lambda a: jnp.asarray(a, dtype_of(case)), jnp.tanh, jax.nn.softmax, jnp.log, jnp.exp
        ),
    )


def first(case: Case, key: Array) -> Array:
    """X_0, (batch, d)."""
    shape, dtype = (case.batch, case.model.dimension), dtype_of(case)
    if case.start is None:
        return jax.random.normal(key, shape, dtype)
    return jnp.broadcast_to(jnp.asarray(case.start, dtype), shape)
