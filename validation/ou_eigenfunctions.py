"""Values that are eigenfunctions: Hermite polynomials of the Ornstein–Uhlenbeck process."""

import numpy as np
import torch
from numpy.polynomial import hermite_e

from ctcontrol import Estimate, EulerMaruyama, TimeGrid, simulate
from ctcontrol.advantages import ItoAdvantage, TemporalDifferenceAdvantage
from ctcontrol.critics import LeastSquaresTD, LinearValue
from ctcontrol.exact.ou import OrnsteinUhlenbeck
from validation._chains import gaussian
from validation._problems import seeded
from validation._report import Plot, Report, Series, Size, equal, order, pick, power, sampled

PULL, NOISE, DISCOUNT, START = 0.9, 0.7, 0.5, 1.2
SCALE = NOISE / (2 * PULL) ** 0.5


def reward(order: int) -> list[float]:
    """Coefficients of He_order(x/ℓ) in powers of x."""
    series = hermite_e.herme2poly([0.0] * order + [1.0])
    return [float(c) / SCALE**j for j, c in enumerate(series)]


def process(order: int) -> OrnsteinUhlenbeck:
    """dX = −0.9X dt + 0.7 dW from 1.2, reward He_order, discount 0.5, without a horizon."""
    return OrnsteinUhlenbeck(
        rate=PULL, volatility=NOISE, running=reward(order), terminal=[0.0],
        discount=DISCOUNT, initial_mean=START,
    )  # fmt: skip


def chain_laws(horizon: float, steps: int) -> list[tuple[float, float]]:
    """Mean and variance of the chain of Euler and Maruyama at every node."""
    dt = horizon / steps
    laws = [(START, 0.0)]
    for _ in range(steps):
        mean, variance = laws[-1]
        shrink = 1 - PULL * dt
        laws.append((shrink * mean, shrink**2 * variance + NOISE**2 * dt))
    return laws


def hermite(order: int, x: np.ndarray) -> np.ndarray:
    """He_order(x/ℓ)."""
    return hermite_e.hermeval(x / SCALE, [0.0] * order + [1.0])


def expected_return(order: int, horizon: float, steps: int) -> float:
    """The mean of the simulated return, the value paid at the horizon; exactly."""
    points = [gaussian(m, v, order) for m, v in chain_laws(horizon, steps)]
    means = np.array([w @ hermite(order, x) for x, w in points])
    dt = horizon / steps
    discount = np.exp(-DISCOUNT * dt * np.arange(steps + 1))
    paid = discount[-1] * means[-1] / (DISCOUNT + order * PULL)
    return float(dt * discount[:-1] @ means[:-1] + paid)


def expected_fit(order: int, steps: int) -> float:
    """What `fitted` finds from infinitely many paths of the chain; exactly."""
    horizon, truth = 4.0, 1 / (DISCOUNT + order * PULL)
    dt, top, bottom = horizon / steps, 0.0, 0.0
    z, weights = gaussian(0.0, 1.0, 2 * order)
    for k, (mean, variance) in enumerate(chain_laws(horizon, steps)[:-1]):
        x, w = gaussian(mean, variance, 2 * order)
        now = hermite(order, x)
        after = hermite(order, (1 - PULL * dt) * x[:, None] + NOISE * dt**0.5 * z) @ weights
        later, left, shrink = (k + 1) / steps, 1 - k / steps, np.exp(-DISCOUNT * dt)
        base = truth * (shrink * later * after - (1 - left) * now) + dt * now
        change = left * now - shrink * (1 - later) * after
        discount = np.exp(-DISCOUNT * k * dt)
        top += discount * left * (w @ (now * base))
        bottom += discount * left * (w @ (now * change))
    return float(top / bottom)


def fitted(order: int, batch: int, steps: int) -> Estimate:
    """TD(0) with the feature He_order, cut at its own value: the truth is θ = 1/(ρ + nk)."""
    ou, horizon = process(order), 4.0
    truth = 1 / (DISCOUNT + order * PULL)

    def feature(t: torch.Tensor, x: torch.Tensor, context: object) -> torch.Tensor:
        value = ou.value().at(t, x, None) / truth
        return (1 - t / horizon)[:, None] * value[:, None]

    def base(t: torch.Tensor, x: torch.Tensor, context: object) -> torch.Tensor:
        return t / horizon * ou.value().at(t, x, None)

    run = simulate(
        ou.problem(horizon), ou.policy(), TimeGrid.uniform(horizon, steps), batch,
        generator=seeded(order),
    )  # fmt: skip
    return LeastSquaresTD().solve(LinearValue(feature, 1, base), run).estimates[0]


def check(size: Size) -> Report:
    """r = He_n(x/ℓ) has the value He_n/(ρ + nk)."""
    batch, horizon = pick(size, 10_000, 50_000), 4.0
    counts = pick(size, (40, 80, 160), (40, 80, 160, 320))
    ou, solver = process(3), EulerMaruyama()
    value = ou.value()
    start = torch.full((1, 1), START, dtype=torch.float64)
    at_start = float(value.at(start.new_zeros(1), start, None))
    returns, gaps, residual = [], [], 0.0
    for n in counts:
        problem, grid = ou.problem(horizon), TimeGrid.uniform(horizon, n)
        run = simulate(problem, ou.policy(), grid, batch, generator=seeded(n))
        returns.append(Estimate.of(run.returns()))
        delta = TemporalDifferenceAdvantage()(problem, solver, value, run) * run.lengths
        weight = (-DISCOUNT * grid.times[:-1]).exp()[:, None]
        # E[δ | X]: V(x + b Δ + σ√Δ ξ) by quadrature, which leaves little to sample.
        gaps.append(Estimate.of((weight * (delta - _noise(ou, run.states, n))).sum(0)))
        residual = max(residual, float(ItoAdvantage()(problem, solver, value, run).abs().max()))
    fine = (320, 640, 1280)
    fits = {n: fitted(n, batch, 160) for n in (1, 2, 3)}
    draws = ou.sample_occupation(10 * batch, seeded(9))
    orders = (1, 2, 3, 4, 5)
    ratios = [_ratio(n) for n in orders]
    return Report(
        title="Eigenfunctions of the Ornstein–Uhlenbeck process",
        statement="L He_n(x/ℓ) = −nk He_n for dX = −kX dt + σdW, ℓ = σ/√(2k). So the reward He_n "
        "has the discounted value He_n/(ρ + nk), and the occupation law E_d He_n = "
        "ρ/(ρ + nk) He_n(x₀/ℓ).",
        assumptions="k > 0, ρ > 0.",
        source="Mehler's formula; docs/theory, advantage rate.",
        code=("ctcontrol.exact.ou.OrnsteinUhlenbeck", "ctcontrol.critics.LeastSquaresTD"),
        claims=(
            equal("golden", "V(1.2) for He₃", at_start, 1.6457590697, 1e-9),
            equal("occupation", "E_d[X²]", ou.occupation_moment(2), 0.5260869565, 1e-9),
            sampled("drawn", "and from exact draws of it", Estimate.of(draws**2), 0.5260869565),
            equal("hjb", "LV − ρV + r = 0 along paths", residual, 0),
            sampled(
                "return",
                f"simulated return, {counts[-1]} steps, and exactly",
                returns[-1],
                expected_return(3, horizon, counts[-1]),
            ),
            sampled(
                "telescopes",
                "less V(1.2) it is E Σe^{−ρt}δ of the exact V",
                gaps[-1],
                expected_return(3, horizon, counts[-1]) - at_start,
            ),
            order(
                "martingale",
                "which is O(Δt)",
                [horizon / n for n in fine],
                [expected_return(3, horizon, n) - at_start for n in fine],
                1.0,
            ),
            *(
                sampled(f"td_{n}", f"TD(0) for He_{n}, 160 steps", fit, expected_fit(n, 160))
                for n, fit in fits.items()
            ),
            *(
                order(
                    f"td_limit_{n}",
                    f"which tends to 1/(ρ + {n}k): O(Δt)",
                    [horizon / m for m in fine],
                    [expected_fit(n, m) - 1 / (DISCOUNT + n * PULL) for m in fine],
                    1.0,
                )
                for n in fits
            ),
        ),
        plot=Plot(
            "V(1.2)/He_n for the reward He_n",
            "n",
            "value in units of the reward",
            (
                Series("exact value", orders, ratios),
                Series(
                    "1/(ρ + nk)",
                    orders,
                    [1 / (DISCOUNT + n * PULL) for n in orders],
                    reference=True,
                ),
                Series(
                    "TD(0)",
                    list(fits),
                    [f.mean for f in fits.values()],
                    [f.stderr for f in fits.values()],
                ),
                power("1/ρ", orders, 1 / DISCOUNT, 0.0),
            ),
        ),
    )


def _ratio(order: int) -> float:
    start = torch.full((1, 1), START, dtype=torch.float64)
    he = float(hermite_e.hermeval(START / SCALE, [0.0] * order + [1.0]))
    return float(process(order).value().at(start.new_zeros(1), start, None)) / he


def _noise(ou: OrnsteinUhlenbeck, states: torch.Tensor, steps: int) -> torch.Tensor:
    """e^{−ρΔ}(V(X′) − E[V(X′) | X]) of every Euler step, (steps, batch)."""
    dt = 4.0 / steps
    nodes, weights = (torch.tensor(v) for v in hermite_e.hermegauss(4))
    value, center = ou.value(), (1 - PULL * dt) * states[:-1]
    shape = center.shape[:2]

    def at(x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, 1)
        return value.at(flat.new_zeros(len(flat)), flat, None).reshape(shape)

    spread = NOISE * dt**0.5
    average = sum(w * at(center + spread * z) for w, z in zip(weights, nodes, strict=True))
    return (-torch.tensor(DISCOUNT * dt)).exp() * (at(states[1:]) - average / weights.sum())
