"""The optimal score is the score of the noised, tilted density."""

import torch

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.tilt import GaussianMixture, MixtureTilt, VariancePreserving
from validation._problems import gaussian_tilt, seeded
from validation._report import Plot, Report, Series, Size, equal, pick, sampled


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
    bias = 3.0 / steps
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
                "optimal_return", f"J − E V(0, Y_0) under a*, {steps} steps", returns, 0.0, bias
            ),
            sampled(
                "start_at_noise",
                "mean of the samples, which start at p_T and not at p*_T",
                Estimate.of(run.final),
                1.4647,
                bias + 5e-5,
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
