import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError
from ctcontrol.exact.tilt import (
    FlowMatching,
    ForwardProcess,
    VarianceExploding,
    VariancePreserving,
)
from tests.ctcontrol.exact.tilt.instances import schedules


@given(schedules, st.floats(0.0, 1.0))
def test_the_coefficients_are_those_of_the_marginals(schedule: ForwardProcess, at: float) -> None:
    """f = (log α)′ and g² = (σ²)′ − 2fσ²; numbers and tensors agree."""
    s = torch.tensor([at * schedule.horizon], dtype=torch.float64, requires_grad=True)
    log_alpha, variance = schedule.log_alpha(s), schedule.variance(s)
    (rate,) = torch.autograd.grad(log_alpha.sum(), s)
    (spread,) = torch.autograd.grad(variance.sum(), s)
    now = float(s.detach())
    pull, intensity = schedule.pull(now), schedule.intensity(now)
    assert abs(float(rate) - pull) < 1e-10 * max(1, abs(pull))
    expected = float(spread) - 2 * pull * schedule.variance(now)
    assert abs(intensity - expected) < 1e-10 * max(1, abs(expected))
    for name in ("alpha", "log_alpha", "variance", "pull", "intensity"):
        rows, number = getattr(schedule, name)(s.detach()), getattr(schedule, name)(now)
        assert isinstance(number, float)
        assert abs(float(rows) - number) < 1e-12 * max(1, abs(number)), name
    assert schedule.alpha(now) == pytest.approx(math.exp(schedule.log_alpha(now)), rel=1e-12)


@given(schedules)
def test_data_are_clean_and_end_as_noise(schedule: ForwardProcess) -> None:
    assert schedule.alpha(0.0) == 1
    assert schedule.variance(0.0) == 0
    T = schedule.horizon
    assert schedule.alpha(T) ** 2 < 0.5 * schedule.variance(T)


def test_bad_processes_are_refused() -> None:
    with pytest.raises(CtcontrolError, match="beta_max must be at least beta_min = 2"):
        VariancePreserving(2.0, 1.0)
    with pytest.raises(CtcontrolError, match=r"sigma_max must exceed sigma_min = 0\.5, got 0\.5"):
        VarianceExploding(0.5, 0.5)
    with pytest.raises(CtcontrolError, match=r"infinite at s = 1; got 1\.0"):
        FlowMatching(1.0)
