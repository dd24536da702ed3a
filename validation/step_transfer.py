"""What "overfits to 50 steps" can mean: optimal chains for one step count, run at another."""

import numpy as np

from ctcontrol.exact.tilt import GaussianTilt, StepTransfer, VariancePreserving
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_least,
    at_most,
    equal,
    order,
    pick,
    power,
)

EVALUATED = (10, 25, 50, 100, 400)
GOLDEN = {
    0: (0.01172, 0.00149, 0.00034, 0.00008, 0.00001),
    10: (0, 0.00453, 0.00754, 0.00922, 0.01055),
    25: (0.00485, 0, 0.00039, 0.00085, 0.00129),
    50: (0.00802, 0.00040, 0, 0.00009, 0.00026),
    100: (0.00982, 0.00087, 0.00009, 0, 0.00005),
}
"""Regret at `EVALUATED` steps of the best shift for the steps in the key; 0: continuous time."""


def problem() -> StepTransfer:
    """Data N(0.4, 0.6), β from 0.1 to 8, reward 1.1y, κ = 0.2."""
    return StepTransfer(
        GaussianTilt(
            VariancePreserving(0.1, 8.0), mean=[0.4], covariance=0.6, linear=[1.1], kl_weight=0.2
        )
    )


def regret(trained: int, steps: int) -> float:
    """At `steps` steps, of the shift found with `trained` steps; 0 is continuous time."""
    transfer = problem()
    shift = transfer.transferred(trained, steps) if trained else transfer.continuous(steps)
    return transfer.regret(shift, steps)


def check(size: Size) -> Report:
    """Regret of running at M steps what was trained at N steps."""
    off = [abs(regret(0, m) - g) for m, g in zip(EVALUATED, GOLDEN[0], strict=True)]
    table = {
        n: max(abs(regret(n, m) - g) for m, g in zip(EVALUATED, GOLDEN[n], strict=True))
        for n in (10, 25, 50, 100)
    }
    transfer = problem()
    shift = transfer.continuous(25) + np.linspace(-1.0, 2.0, 25)[:, None]
    lost = transfer.expected_return(transfer.optimum(25)) - transfer.expected_return(shift)
    counts = pick(size, (20, 40, 80, 160, 320), (20, 40, 80, 160, 320, 640, 1280))
    continuous = [regret(0, m) for m in counts]
    limit = [regret(n, 6400) for n in counts]
    sizes = [1.0 / n for n in counts]
    gaps = [1.0 / n - 1.0 / 6400 for n in counts]
    return Report(
        title="Transfer between numbers of steps",
        statement="For a linear reward and Gaussian data the best score shift of an N-step Euler "
        "chain is known. Run with M steps it loses O((1/N − 1/M)²); the optimum of continuous time "
        "loses O(1/M²) at every M. Overfitting to 50 steps is real, and small, in this model.",
        assumptions="Gaussian data, linear reward, Euler chain, shift interpolated in time.",
        source="docs/theory, reverse SDE.",
        code=("ctcontrol.exact.tilt.StepTransfer",),
        claims=(
            equal("golden", "regret of the continuous-time optimum", max(off), 0, 6e-6),
            *(
                equal(f"golden_{n}", f"regrets of what was trained at {n} steps", gap, 0, 6e-6)
                for n, gap in table.items()
            ),
            equal(
                "identity", "regret = J_N(best) − J_N(any shift)", transfer.regret(shift, 25), lost
            ),
            order("continuous", "continuous-time optimum: regret ∝ 1/M²", sizes, continuous, 2.0),
            order("trained", "trained at N, run at M = 6400: ∝ (1/N − 1/M)²", gaps, limit, 2.0),
            at_most("fifty", "trained at 50, run at 100: regret", regret(50, 100), 2e-4),
            at_least("ten", "trained at 10, run at 100: regret", regret(10, 100), 5e-3),
        ),
        plot=Plot(
            "Regret after a change of the number of steps",
            "steps at evaluation",
            "regret",
            (
                *(
                    Series(
                        f"trained at {n}" if n else "continuous-time optimum",
                        [m for m in EVALUATED if m != n],
                        [regret(n, m) for m in EVALUATED if m != n],
                    )
                    for n in (0, 10, 25, 50, 100)
                ),
                power("slope −2", EVALUATED, regret(0, 400), -2.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
