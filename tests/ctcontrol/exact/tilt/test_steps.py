"""What training at one number of steps costs at another."""

import numpy as np
import pytest

from ctcontrol import CtcontrolError
from ctcontrol.exact.tilt import FlowMatching, GaussianTilt, StepTransfer, VariancePreserving
from tests.helpers import slope

TILT = GaussianTilt(
    VariancePreserving(0.1, 8.0), mean=[0.4], covariance=0.6, linear=[1.1], kl_weight=0.2
)
TRANSFER = StepTransfer(TILT)
COUNTS = (10, 25, 50, 100, 400)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (None, (0.01172, 0.00149, 0.00034, 0.00008, 0.00001)),
        (10, (0, 0.00453, 0.00754, 0.00922, 0.01055)),
        (25, (0.00485, 0, 0.00039, 0.00085, 0.00129)),
        (50, (0.00802, 0.00040, 0, 0.00009, 0.00026)),
        (100, (0.00982, 0.00087, 0.00009, 0, 0.00005)),
    ],
)
def test_golden_table(trained: int | None, expected: tuple[float, ...]) -> None:
    for steps, regret in zip(COUNTS, expected, strict=True):
        own = (
            TRANSFER.continuous(steps) if trained is None else TRANSFER.transferred(trained, steps)
        )
        assert abs(TRANSFER.regret(own, steps) - regret) < 0.6e-5
    best = [TRANSFER.expected_return(TRANSFER.optimum(n)) for n in COUNTS]
    assert 2.235 < min(best) < max(best) < 2.465


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_regret_is_what_the_return_loses(eta: float) -> None:
    tilt = GaussianTilt(
        FlowMatching(0.9),
        mean=[0.4, -0.1],
        covariance=[[0.6, 0.2], [0.2, 0.5]],
        linear=[1.1, -0.4],
        kl_weight=0.5,
        eta=eta,
    )
    transfer, rng = StepTransfer(tilt), np.random.default_rng(0)
    best = transfer.optimum(12)
    other = best + rng.normal(size=best.shape)
    lost = transfer.expected_return(best) - transfer.expected_return(other)
    assert abs(lost - transfer.regret(other, 12)) < 1e-10 * lost
    assert transfer.regret(best, 12) == 0
    assert np.abs(transfer.transferred(12, 12) - best).max() < 1e-14


def test_the_continuous_optimum_transfers_at_the_square_of_the_step() -> None:
    regrets = [TRANSFER.regret(TRANSFER.continuous(n), n) for n in (50, 100, 200, 400)]
    assert slope((50, 100, 200, 400), regrets) == pytest.approx(-2, abs=0.1)
    fine = TRANSFER.expected_return(TRANSFER.continuous(3200))
    assert abs(fine - TILT.optimal_return()) < 1e-3


def test_what_does_not_fit_is_refused() -> None:
    curved = GaussianTilt(
        TILT.schedule, mean=[0.0], covariance=1.0, linear=[1.0], quadratic=0.2, kl_weight=1.0
    )
    with pytest.raises(CtcontrolError, match="for a linear reward only"):
        StepTransfer(curved)
    with pytest.raises(CtcontrolError, match=r"shape \(10, 1\), got \(9, 1\)"):
        TRANSFER.regret(TRANSFER.optimum(9), 10)
