"""A Monte-Carlo number carries its error bar."""

import math

import torch

from ctcontrol import Estimate
from tests.helpers import normal


def test_mean_and_standard_error() -> None:
    x = normal(400, seed=1)
    estimate = Estimate.of(x.float().requires_grad_())
    assert estimate.n == 400
    assert math.isclose(estimate.mean, float(x.mean()), rel_tol=1e-5)
    assert math.isclose(estimate.stderr, float(x.std()) / 20, rel_tol=1e-5)


def test_a_single_sample_has_no_error_bar() -> None:
    estimate = Estimate.of(torch.tensor([2.0]))
    assert estimate.mean == 2.0
    assert math.isnan(estimate.stderr)


def test_the_error_bar_covers_the_truth() -> None:
    covered = [abs(e.mean) < 2 * e.stderr for e in map(Estimate.of, normal(1000, 200, seed=2))]
    assert 0.93 < sum(covered) / 1000 < 0.975


def test_it_prints_both() -> None:
    assert str(Estimate(1.23456, 0.0123, 10)) == "1.235 ± 0.012"
