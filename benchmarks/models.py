"""The four controlled processes that everybody simulates, as plain numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Linear:
    """dX = (AX + Ba)dt + σdW from a sure start, with a = −Kx, or a network of x, and LQ costs.

    Attributes:
        A: (d, d), per unit of time.
        B: (d, m), per unit of time.
        K: (m, d).
        volatility: σ, a multiple of I.
        start: (d,).
        layers: weights (in, out) of a network with tanh between, instead of −Kx.
    """

    A: Array
    B: Array
    K: Array
    volatility: float
    start: Array
    layers: tuple[Array, ...] = ()
    horizon: float = 1.0

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.A)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The reversed variance-preserving process of Σ w_i N(m_i, v_i I), from N(0, I).

    dX = [½βX + β∇log p]dt + √β dW at s = T − t, β = β_0 + (β_1 − β_0)s/T.

    Attributes:
        weights: (n,).
        means: (n, d).
        variances: (n,).
    """

    weights: Array
    means: Array
    variances: Array
    beta: tuple[float, float] = (0.1, 20.0)
    horizon: float = 1.0

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[1]


Model = Linear | Mixture


class Backend(NamedTuple):
    """The few functions in which array libraries differ; `exp` is for times."""

    array: Callable[[Array], Any]
    tanh: Callable[[Any], Any]
    softmax: Callable[[Any], Any]
    log: Callable[[Any], Any]
    exp: Callable[[Any], Any] = math.exp


class Dynamics(NamedTuple):
    """A model in an array library: act(t, x), drift(t, x, a) and σ²(t), each at one time."""

    act: Callable[[Any, Any], Any]
    drift: Callable[[Any, Any, Any], Any]
    variance: Callable[[Any], Any]


def dynamics(model: Model, backend: Backend) -> Dynamics:
    """The process as a user of the library would write it."""
    if isinstance(model, Mixture):
        return _reverse_diffusion(model, backend)
    AT, BT, KT = (backend.array(m.T) for m in (model.A, model.B, -model.K))
    layers = [backend.array(weight) for weight in model.layers]

    def network(t: Any, x: Any) -> Any:
        for weight in layers[:-1]:
            x = backend.tanh(x @ weight)
        return x @ layers[-1]

    def drift(t: Any, x: Any, a: Any) -> Any:
        return x @ AT + a @ BT

    return Dynamics(
        network if layers else lambda t, x: x @ KT, drift, lambda t: model.volatility**2
    )


def _reverse_diffusion(model: Mixture, backend: Backend) -> Dynamics:
    low, high = model.beta
    slope = (high - low) / model.horizon
    squares = (model.means**2).sum(1)
    modes, modesT, squares, spreads, logs = map(
        backend.array,
        (model.means, model.means.T, squares, model.variances, np.log(model.weights)),
    )

    def beta(t: Any) -> Any:
        return low + slope * (model.horizon - t)

    def score(t: Any, x: Any) -> Any:
        s = model.horizon - t
        alpha = backend.exp(-0.5 * (low + 0.5 * slope * s) * s)
        spread = alpha * alpha * spreads + (1 - alpha * alpha)
        gap = (x * x).sum(-1)[:, None] - 2 * alpha * (x @ modesT) + alpha * alpha * squares
        logits = logs - 0.5 * gap / spread - 0.5 * model.dimension * backend.log(spread)
        share = backend.softmax(logits) / spread
        return alpha * (share @ modes) - share.sum(-1)[:, None] * x

    def drift(t: Any, x: Any, a: Any) -> Any:
        return beta(t) * (0.5 * x + a)

    return Dynamics(score, drift, beta)


def _linear(d: int, rng: np.random.Generator, layers: bool = False) -> Linear:
    def matrix(rows: int, columns: int) -> Array:
        return rng.standard_normal((rows, columns)) / math.sqrt(rows)

    weights = (matrix(d, 64), matrix(64, 64), matrix(64, d)) if layers else ()
    return Linear(
        A=0.3 * matrix(d, d) - 0.2 * np.eye(d),
        B=np.eye(d) + 0.3 * matrix(d, d),
        K=0.85 * np.eye(d) + 0.05 * matrix(d, d),
        volatility=0.5,
        start=np.linspace(0.5, 1.0, d),
        layers=weights,
    )


def _mixture(d: int, modes: int, rng: np.random.Generator) -> Mixture:
    return Mixture(
        np.arange(1.0, modes + 1) / sum(range(1, modes + 1)),
        rng.standard_normal((modes, d)),
        np.linspace(0.1, 0.4, modes),
    )


MODELS: dict[str, Model] = {
    "OU": Linear(
        *(np.array([[v]]) for v in (-0.5, 1.0, 0.8)), volatility=0.5, start=np.array([1.0])
    ),
    "LQ": _linear(8, np.random.default_rng(1)),
    "network": _linear(8, np.random.default_rng(2), layers=True),
    "diffusion": _mixture(64, 4, np.random.default_rng(3)),
}
"""OU d = 1 and LQ d = 8 with linear feedback that is nearly optimal, a 64 × 64 tanh policy d = 8,
and a reversed diffusion with the score of four modes d = 64."""
