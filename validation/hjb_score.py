"""The optimal score is the score of the noised, tilted density."""

from collections.abc import Callable

import numpy as np
import torch

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.tilt import GaussianMixture, MixtureTilt, VariancePreserving
from validation._chains import backward, gaussian
from validation._problems import gaussian_tilt, seeded
from validation._report import Plot, Report, Series, Size, equal, order, pick, sampled


def one_dimension() -> MixtureTilt:
    """0.3 N(−1, 0.2) + 0.7 N(1.5, 0.4), β from 0.1 to 4, reward 0.9y − 0.25y², κ = 0.6."""
    data = GaussianMixture.of([0.3, 0.7], [[-1.0], [1.5]], [0.2, 0.4])
    return MixtureTilt(
        VariancePreserving(0.1, 4.0), data, linear=[0.9], quadratic=0.5, kl_weight=0.6
    )


def two_dimensions() -> MixtureTilt:
    """Three correlated modes in the plane."""
    data = GaussianMixture.of(
        [0.5, 0.2, 0.3],
        [[-1.0, 0.4], [1.5, -0.8], [0.2, 1.1]],
        [[[0.3, 0.1], [0.1, 0.2]], [[0.4, -0.2], [-0.2, 0.5]], [[0.2, 0.0], [0.0, 0.6]]],
    )
    reward = {"linear": [0.9, -0.4], "quadratic": [[0.5, 0.2], [0.2, 0.3]]}
    return MixtureTilt(VariancePreserving(0.1, 6.0), data, kl_weight=0.7, **reward)


def hjb_residual(tilt: MixtureTilt, t: torch.Tensor, x: torch.Tensor) -> float:
    """max |∂V/∂t + (½βx + βs_pre)·∇V + ½β ΔV + β/(2κ)|∇V|²| at rows (t, x)."""
    jet = tilt.value().jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    beta = tilt.schedule.intensity(tilt.schedule.horizon - t)[:, None]
    drift = 0.5 * beta * x + beta * tilt.pretrained_score(t, x, None)
    bend = jet.hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    square = (jet.gradient**2).sum(-1)
    rest = jet.time + (drift * jet.gradient).sum(-1)
    rest = rest + beta[:, 0] * (0.5 * bend + square / (2 * tilt.kl_weight))
    return float(rest.abs().max())


def on_the_line(function: Callable[..., torch.Tensor], t: float, x: np.ndarray) -> np.ndarray:
    """A function of (t, x, context) over states (batch, 1), at numbers x of any shape."""
    rows = torch.tensor(x).reshape(-1, 1)
    values = function(torch.full((len(rows),), t, dtype=torch.float64), rows, None)
    return values.reshape(x.shape).numpy()


def start_of(tilt: MixtureTilt) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of Y_0, the data noised up to s = T, of a mixture on the line."""
    alpha, noise = tilt.schedule.alpha(1.0), tilt.schedule.variance(1.0)
    data = tilt.data
    modes = zip(data.means[:, 0].tolist(), data.covariances[:, 0, 0].tolist(), strict=True)
    parts = [gaussian(alpha * m, alpha**2 * v + noise, 60) for m, v in modes]
    shares = data.log_weights.exp().tolist()
    weights = [share * w for share, (_, w) in zip(shares, parts, strict=True)]
    return np.concatenate([x for x, _ in parts]), np.concatenate(weights)


def chain_answers(tilt: MixtureTilt, steps: int) -> tuple[float, float]:
    """J − E V(0, Y_0) and E Y_N under a*, of the chain of so many steps, by quadrature."""

    def beta(t: float) -> float:
        return float(tilt.schedule.intensity(1.0 - t))

    def drift(t: float, x: np.ndarray) -> np.ndarray:
        return beta(t) * (0.5 * x + on_the_line(tilt.optimal_score, t, x))

    def cost(t: float, x: np.ndarray) -> np.ndarray:
        best, pre = (
            on_the_line(score, t, x) for score in (tilt.optimal_score, tilt.pretrained_score)
        )
        return 0.5 * tilt.kl_weight * beta(t) * (best - pre) ** 2

    def spread(t: float) -> float:
        return beta(t) ** 0.5

    start, free = start_of(tilt), lambda t, x: 0 * x
    J = backward(
        start, lambda x: on_the_line(lambda t, y, c: tilt.reward(y), 1.0, x), drift, spread, cost,
        1.0, steps,
    )  # fmt: skip
    mean = backward(start, lambda x: x, drift, spread, free, 1.0, steps)
    return J - float(start[1] @ on_the_line(tilt.value().at, 0.0, start[0])), mean


def check(size: Size) -> Report:
    """a* = s_pre + ∇V/κ = ∇log p*_s with p* ∝ p_data e^{r/κ}."""
    tilt, plane = one_dimension(), two_dimensions()
    value = tilt.value()
    t, x = torch.tensor([0.4], dtype=torch.float64), torch.tensor([[0.35]], dtype=torch.float64)
    jet = value.jet(t, x, None)
    from_value = tilt.pretrained_score(t, x, None) + jet.gradient / tilt.kl_weight

    many = 200
    times = torch.rand(many, generator=seeded(3), dtype=torch.float64) * 0.98
    points = torch.randn(many, 2, generator=seeded(4), dtype=torch.float64) * 1.5
    gap = plane.optimal_score(times, points, None) - plane.pretrained_score(times, points, None)
    gap = gap - plane.value().gradient(times, points, None) / plane.kl_weight
    end = torch.ones(many, dtype=torch.float64)
    terminal = plane.value().at(end, points, None) - plane.reward(points)

    gaussian = gaussian_tilt()
    law, (mean, spread) = gaussian.optimal_policy(), gaussian.target()
    off = 0.0
    for now in (0.0, 0.3, 0.7, 0.95):
        alpha = gaussian.schedule.alpha(1 - now)
        noised = alpha**2 * spread[0, 0] + gaussian.schedule.variance(1 - now)
        H, h = gaussian.score(now)
        slope = H[0, 0] + law.gain(now)[0, 0] - 1 / noised
        constant = h[0] + law.offset(now)[0] - alpha * mean[0] / noised
        off = max(off, abs(float(slope)), abs(float(constant)))

    steps, batch = pick(size, 200, 800), pick(size, 20_000, 40_000)
    run = simulate(
        tilt.problem(),
        tilt.optimal_policy(),
        TimeGrid.uniform(1.0, steps),
        batch,
        generator=seeded(5),
    )
    best = tilt.optimal_return()
    # The return under a* has mean E V(0, Y_0); its own start is a control variate.
    start = value.at(torch.zeros(batch, dtype=torch.float64), run.states[0], None)
    returns = Estimate.of(run.returns() - start)
    line = torch.linspace(-3, 3.5, 131, dtype=torch.float64)[:, None]
    now = torch.full((131,), 0.4, dtype=torch.float64)
    scores = {
        "pretrained": tilt.pretrained_score(now, line, None),
        "optimal: score of the noised tilt": tilt.optimal_score(now, line, None),
    }
    via_value = scores["pretrained"] + value.gradient(now, line, None) / tilt.kl_weight
    coarse = (50, 100, 200)
    exact = [chain_answers(tilt, n) for n in coarse]
    ends, here = [mean for _, mean in exact], chain_answers(tilt, steps)
    return Report(
        title="The optimal score is the score of the noised tilt",
        statement="V(t, y) = κ log E^pre[e^{r(Y_T)/κ} | Y_t = y] solves the HJB equation, and the "
        "optimal action s_pre + ∇V/κ is the score of p* ∝ p_data e^{r/κ} noised up to s = T − t.",
        assumptions="The pretrained score is that of the noised data; p_data e^{r/κ} integrates.",
        source="Hopf–Cole transform of the HJB equation; docs/theory, reverse SDE.",
        code=("ctcontrol.exact.tilt.MixtureTilt", "ctcontrol.exact.tilt.TiltValue"),
        claims=(
            equal("value_golden", "V(s = 0.6, 0.35)", float(jet.value), 0.5553201785, 1e-9),
            equal(
                "score_golden", "a*(s = 0.6, 0.35) from ∇V", float(from_value), 1.0157630698, 1e-9
            ),
            equal(
                "score_is_noised_tilt", "a* − s_pre = ∇V/κ at 200 points", float(gap.abs().max()), 0
            ),
            equal("hjb", "residual of the HJB equation", hjb_residual(plane, times, points), 0),
            equal("terminal_condition", "V(T, ·) = r", float(terminal.abs().max()), 0),
            equal("riccati", "Gaussian data: Riccati equation and noised target agree", off, 0),
            sampled(
                "optimal_return",
                f"J − E V(0, Y_0) under a*, {steps} steps, and by quadrature",
                returns,
                here[0],
            ),
            order(
                "return_limit",
                "which is O(Δt): V is the value of a*",
                [1.0 / n for n in coarse],
                [gap for gap, _ in exact],
                1.0,
            ),
            sampled(
                "start_at_noise",
                "mean of the samples, which start at p_T and not at p*_T",
                Estimate.of(run.final),
                here[1],
            ),
            equal(
                "start_limit",
                "which tends to (Richardson)",
                (8 * ends[2] - 6 * ends[1] + ends[0]) / 3,
                1.4647,
                5e-5,
            ),
            equal("mean_of_target", "mean of p*", float(tilt.target.mean()), 1.5144, 5e-5),
            equal(
                "optimal_return_quadrature", "J* by two quadratures", best, tilt.optimal_return(64)
            ),
        ),
        plot=Plot(
            "Scores at s = 0.6",
            "y",
            "score",
            (
                *(
                    Series(name, line[:, 0].tolist(), score[:, 0].tolist())
                    for name, score in scores.items()
                ),
                Series(
                    "s_pre + ∇V/κ", line[:, 0].tolist(), via_value[:, 0].tolist(), reference=True
                ),
            ),
        ),
    )
