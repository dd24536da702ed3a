"""What a value network has to learn near the data, for each link to the known guess."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ctcontrol import CosOneMinusCos, CosSin, Linear, Link, PinnedValue, Variance
from ctcontrol.exact.tilt import GaussianMixture, VariancePreserving
from validation._report import Plot, Report, Series, Size, at_most, equal, order, pick, rate

SCHEDULE = VariancePreserving(0.1, 20.0)
LINEAR, BEND = 0.9, 0.5
GOLDEN = {
    "cos, 1 − cos": (22.2, 4.02, 2.00, 1.78, 0.12),
    "cos, sin": (0.017, 0.032, 0.157, 0.43, 0.12),
    "linear": (0.94, 0.95, 0.91, 0.81, 0.12),
    "1, σ²": (0.25, 0.25, 0.23, 0.34, 0.41),
}
TIMES = (0.001, 0.01, 0.1, 0.3, 1.0)


def reward(y: Tensor) -> Tensor:
    """0.9y − 0.25y²."""
    return LINEAR * y - 0.5 * BEND * y**2


def links() -> dict[str, Link]:
    """The library's links over one unit of time."""

    def variance(t: Tensor) -> Tensor:
        return -torch.expm1(-SCHEDULE.integral(1 - t))

    return {
        "cos, 1 − cos": CosOneMinusCos(1.0),
        "cos, sin": CosSin(1.0),
        "linear": Linear(1.0),
        "1, σ²": Variance(variance),
    }


def posterior(data: GaussianMixture, s: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """E[X_0|X_s = x] and E[X_0²|X_s = x] of a mixture on the line, (batch,)."""
    alpha, noise = SCHEDULE.alpha(s), SCHEDULE.variance(s)
    m, v = data.means[:, 0], data.covariances[:, 0, 0]
    spread = alpha**2 * v + noise
    log = data.log_weights - 0.5 * spread.log() - 0.5 * (x[:, None] - alpha * m) ** 2 / spread
    share = log.softmax(1)
    narrow = v * noise / spread
    center = (v * alpha * x[:, None] + noise * m) / spread
    return (share * center).sum(1), (share * (center**2 + narrow)).sum(1)


def residuals(data: GaussianMixture, s: float, nodes: int = 80) -> dict[str, float]:
    """Root mean square over X_s of (V − c_in r(x̂))/c_out for every link, by quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    noised = data.noised(SCHEDULE.alpha(s), SCHEDULE.variance(s))
    roots = noised.covariances[:, 0, 0].sqrt()
    x = (noised.means + roots[:, None] * torch.tensor(points)).flatten()
    share = (noised.weights[:, None] * torch.tensor(weights / weights.sum())).flatten()
    first, second = posterior(data, s, x)
    value, guess = LINEAR * first - 0.5 * BEND * second, reward(first)
    out = {}
    for name, link in links().items():
        c_in, c_out = (float(c) for c in link.coefficients(torch.tensor([1.0 - s]).double()))
        out[name] = math.sqrt(float((share * ((value - c_in * guess) / c_out) ** 2).sum()))
    return out


def check(size: Size) -> Report:
    """(V − c_in r(x̂))/c_out near the data: 1/s for (cos, 1 − cos), bounded for the others."""
    data = GaussianMixture.of([0.3, 0.7], [[-1.0], [1.5]], [0.2, 0.4])
    x = torch.linspace(-3, 3, 41, dtype=torch.float64)
    s = 0.35
    first, second = posterior(data, s, x)
    level = torch.full_like(x, SCHEDULE.alpha(s)), torch.full_like(x, SCHEDULE.variance(s))
    tweedie = (x + level[1] * data.score(x[:, None], *level)[:, 0]) / level[0]
    gap = LINEAR * first - 0.5 * BEND * second - reward(first)

    known = {s: residuals(data, s) for s in TIMES}
    off = {
        name: max(abs(known[s][name] / g - 1) for s, g in zip(TIMES, GOLDEN[name], strict=True))
        for name in GOLDEN
    }
    near = pick(size, (4e-4, 2e-4, 1e-4, 5e-5), (1.6e-3, 8e-4, 4e-4, 2e-4, 1e-4, 5e-5))
    small = {name: [residuals(data, s)[name] for s in near] for name in GOLDEN}

    def residual(t: Tensor, x: Tensor, context: object) -> Tensor:
        return 1e3 * torch.ones_like(t)

    guess: Callable[..., Tensor] = lambda t, x, context, mean: reward(x[:, 0])
    end = torch.ones(41, dtype=torch.float64)
    pinned = max(
        float(
            (PinnedValue(guess, residual, link).at(end, x[:, None], None) - reward(x)).abs().max()
        )
        for link in links().values()
    )
    return Report(
        title="Links of value networks",
        statement="With V = c_in(t) r(x̂) + c_out(t) F and V = E[r(X_0)|X_s], quadratic rewards "
        "have V − r(x̂) = −½tr(K Cov[X_0|X_s]) = O(s). So F must grow like 1/s near the data for "
        "(cos, 1 − cos), tends to the size of r for the linear link, and stays small for "
        "(cos, sin) and for the posterior-variance link (1, σ²).",
        assumptions="Exact denoiser x̂; twice differentiable reward.",
        source="Score as Action, eq. 20; docs/theory, value-network links.",
        code=("ctcontrol.PinnedValue", "ctcontrol.CosSin", "ctcontrol.Variance"),
        claims=(
            equal(
                "tweedie",
                "x̂ = (x + σ²·score)/α is the posterior mean",
                float((tweedie - first).abs().max()),
                0,
            ),
            equal(
                "gap",
                "V − r(x̂) = −½K Var[X_0|X_s]",
                float((gap + 0.5 * BEND * (second - first**2)).abs().max()),
                0,
            ),
            equal("boundary", "V(T, ·) = r whatever the network says", pinned, 0),
            *(
                equal(f"table_{i}", f"size of F for {name} at five times, relative", gap, 0, 0.05)
                for i, (name, gap) in enumerate(off.items())
            ),
            order(
                "cos_one_minus_cos", "(cos, 1 − cos): F ∝ 1/s", near, small["cos, 1 − cos"], -1.0
            ),
            order("linear", "linear link: F tends to a constant", near, small["linear"], 0.0),
            rate("variance", "(1, σ²): F tends to a constant", near, small["1, σ²"], 0.0, 0.002),
            equal("variance_limit", "which is ½K", small["1, σ²"][-1], 0.5 * BEND, 0.001),
            at_most("cos_sin", "(cos, sin): F at the data end", small["cos, sin"][-1], 0.03),
        ),
        plot=Plot(
            "What the network has to learn",
            "diffusion time s",
            "root mean square of F",
            tuple(
                Series(name, _grid(), [residuals(data, s)[name] for s in _grid()])
                for name in GOLDEN
            ),
            log_x=True,
            log_y=True,
        ),
    )


def _grid() -> list[float]:
    return [float(s) for s in np.geomspace(1e-3, 1.0, 25)]
