"""Other ways to the gradient of the mean cost with respect to a gain.

The cost is a coordinate of its own where a library integrates states alone.
"""

import math
from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case, Rollout, Run
from benchmarks.models import Array, Linear

Method = Callable[[Case], Run | None]


def gain(case: Case) -> Array:
    """Where the gradient is taken: beyond the optimum, so that it is not a small difference."""
    return 2 * _model(case).K


def _model(case: Case) -> Linear:
    assert isinstance(case.model, Linear)
    return case.model


def naive(case: Case) -> Run:
    """The loop of a tutorial, and `backward`."""
    import torch

    model, dtype = _model(case), getattr(torch, case.dtype)
    A, B = (torch.tensor(m, dtype=dtype) for m in (model.A, model.B))
    K = torch.tensor(gain(case), dtype=dtype, requires_grad=True)
    start, h = torch.tensor(model.start, dtype=dtype), case.step

    def run(seed: int) -> Rollout:
        generator = torch.Generator().manual_seed(seed)
        x, cost = start.repeat(case.batch, 1), torch.zeros(case.batch, dtype=dtype)
        for _ in range(case.steps):
            a = -x @ K.T
            cost = cost + (x.square().sum(1) + a.square().sum(1)) * h
            noise = torch.randn(x.shape, dtype=dtype, generator=generator)
            x = x + (x @ A.T + a @ B.T) * h + model.volatility * math.sqrt(h) * noise
        value = -(cost + x.square().sum(1)).mean()
        return Rollout(torch.autograd.grad(value, K)[0].numpy())

    return run


def torchsde(integrator: str, scheme: str, kind: str, adjoint: str | None) -> Method:
    """`sdeint` with `backward`, or `sdeint_adjoint`."""

    def prepare(case: Case) -> Run:
        import torch
        import torchsde
        from torch import Tensor, nn

        model, dtype = _model(case), getattr(torch, case.dtype)
        d = model.dimension
        A, B = (torch.tensor(m, dtype=dtype) for m in (model.A, model.B))
        noise = torch.tensor([[model.volatility] * d + [0.0]], dtype=dtype)

        class Process(nn.Module):
            sde_type, noise_type = kind, "diagonal"

            def __init__(self) -> None:
                super().__init__()
                self.K = nn.Parameter(torch.tensor(gain(case), dtype=dtype))

            def f(self, t: Tensor, y: Tensor) -> Tensor:
                x = y[:, :d]
                a = -x @ self.K.T
                cost = (x * x).sum(1, keepdim=True) + (a * a).sum(1, keepdim=True)
                return torch.cat([x @ A.T + a @ B.T, cost], 1)

            def g(self, t: Tensor, y: Tensor) -> Tensor:
                return noise.expand_as(y)

        process = Process()
        times = torch.tensor([0.0, model.horizon], dtype=torch.float64)
        options = {} if adjoint is None else {"adjoint_method": adjoint}

        def run(seed: int) -> Rollout:
            torch.manual_seed(seed)
            y = torch.zeros(case.batch, d + 1, dtype=dtype)
            y[:, :d] = torch.tensor(model.start, dtype=dtype)
            solve = getattr(torchsde, integrator)
            end = solve(process, y, times, method=scheme, dt=case.step, **options)[-1]
            value = -(end[:, d] + end[:, :d].square().sum(1)).mean()
            return Rollout(torch.autograd.grad(value, process.K)[0].numpy())

        return run

    return prepare


def jax_scan(case: Case) -> Run:
    """`jax.grad` of the scan."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    model, h = _model(case), case.step
    A, B, K, start = (
        jnp.asarray(m, case.dtype) for m in (model.A, model.B, gain(case), model.start)
    )

    def value(K: jax.Array, key: jax.Array) -> jax.Array:
        def step(
            carry: tuple[jax.Array, jax.Array], key: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            x, cost = carry
            a = -x @ K.T
            cost = cost + ((x * x).sum(1) + (a * a).sum(1)) * h
            noise = jax.random.normal(key, x.shape, x.dtype)
            x = x + (x @ A.T + a @ B.T) * h + model.volatility * math.sqrt(h) * noise
            return (x, cost), None

        x = jnp.tile(start, (case.batch, 1))
        keys = jax.random.split(key, case.steps)
        (x, cost), _ = jax.lax.scan(step, (x, jnp.zeros(case.batch, x.dtype)), keys)
        return -(cost + (x * x).sum(1)).mean()

    slope = jax.jit(jax.grad(value))
    return lambda seed: Rollout(np.asarray(slope(K, jax.random.key(seed))))


def diffrax(case: Case) -> Run:
    """`diffeqsolve` with `RecursiveCheckpointAdjoint`, which takes a `VirtualBrownianTree`."""
    import diffrax
    import jax
    import jax.numpy as jnp
    import lineax
    import numpy as np

    model, dtype, d = _model(case), jnp.dtype(case.dtype), _model(case).dimension
    A, B, K, start = (jnp.asarray(m, dtype) for m in (model.A, model.B, gain(case), model.start))
    shape = jax.ShapeDtypeStruct((case.batch, d + 1), dtype)
    sigma = jnp.broadcast_to(jnp.asarray([model.volatility] * d + [0.0], dtype), shape.shape)

    def drift(t: Any, y: jax.Array, K: jax.Array) -> jax.Array:
        x = y[:, :d]
        a = -x @ K.T
        cost = (x * x).sum(1, keepdims=True) + (a * a).sum(1, keepdims=True)
        return jnp.concatenate([x @ A.T + a @ B.T, cost], 1)

    def value(K: jax.Array, key: jax.Array) -> jax.Array:
        tree = diffrax.VirtualBrownianTree(0.0, model.horizon, case.step / 2, shape, key)
        spread = diffrax.ControlTerm(lambda t, y, K: lineax.DiagonalLinearOperator(sigma), tree)
        end = jnp.asarray(model.horizon, dtype)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), spread),
            diffrax.Euler(),
            jnp.zeros((), dtype),
            end,
            None,
            jnp.pad(jnp.tile(start, (case.batch, 1)), ((0, 0), (0, 1))),
            args=K,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.StepTo(jnp.linspace(0, end, case.steps + 1, dtype=dtype)),
            adjoint=diffrax.RecursiveCheckpointAdjoint(),
            max_steps=case.steps + 1,
        )
        assert solution.ys is not None
        y = solution.ys[-1]
        return -(y[:, d] + (y[:, :d] * y[:, :d]).sum(1)).mean()

    slope = jax.jit(jax.grad(value))
    return lambda seed: Rollout(np.asarray(slope(K, jax.random.key(seed))))


RIVALS: dict[str, Method] = {
    "torch, naive loop": naive,
    "torchsde, backward": torchsde("sdeint", "euler", "ito", None),
    "torchsde, Euler adjoint": torchsde("sdeint_adjoint", "euler", "ito", "euler"),
    "torchsde, reversible Heun adjoint": torchsde(
        "sdeint_adjoint", "reversible_heun", "stratonovich", "adjoint_reversible_heun"
    ),
    "JAX scan": jax_scan,
    "diffrax": diffrax,
}
