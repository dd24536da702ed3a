"""Trust penalties: what they measure, how they adapt, and that a resumed run adapts alike."""

import itertools
from typing import Any

import pytest
import torch

from ctcontrol import (
    ContinuousPPO,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    KLPenalty,
    MonteCarloAdvantage,
    RootKLPenalty,
    TimeGrid,
    Transitions,
    TrustPenalty,
    Updater,
    improve,
    simulate,
)
from tests.helpers import assert_close, assert_covers, seeded
from tests.problems import regulator

GRID = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
LINEAR = regulator(temperature=0.2)
PENALTIES = [KLPenalty, RootKLPenalty]


def _policy(shift: float = 0.0) -> GaussianPolicy:
    return GaussianPolicy(LINEAR.mean(LINEAR.zero, LINEAR.k0 + shift), 0.4)


def _rows() -> Transitions:
    path = simulate(LINEAR.problem, _policy(), GRID, 16, generator=seeded(1))
    return path.transitions(signal=torch.zeros_like(path.rewards))


def test_every_penalty_is_here() -> None:
    assert_covers(TrustPenalty, PENALTIES)


@pytest.mark.parametrize("kind", PENALTIES)
class TestPenalty:
    def test_nothing_and_flat_where_nothing_moved(self, kind: type[TrustPenalty]) -> None:
        kl = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        distance = kind().distance(kl * kl)
        assert_close(distance, 0.0, 1e-15)
        assert_close(torch.autograd.grad(distance.sum(), kl)[0], 0.0, 1e-15)

    def test_rises_and_falls_outside_the_band_only(self, kind: type[TrustPenalty]) -> None:
        penalty = kind(2.0, target=0.1, band=0.2, factor=1.5)
        assert penalty.adapted(0.1201).coefficient == pytest.approx(3.0)
        assert penalty.adapted(0.0799).coefficient == pytest.approx(2 / 1.5)
        assert penalty.adapted(0.1199) is penalty
        assert penalty.adapted(0.0801) is penalty

    def test_the_loss_pays_for_the_distance(self, kind: type[TrustPenalty]) -> None:
        """By hand: C · mean over paths of Σ e^{−ρt} Δ d(½|shift|²/ς²), beside a ratio of zero."""
        rows, moved = _rows(), _policy(0.3)
        trust = kind(1.7)
        with_, without = (
            ContinuousPPO(clip=None, trust=t)
            .loss(LINEAR.problem, EulerMaruyama(), moved, rows)
            .loss
            for t in (trust, None)
        )
        kl = torch.tensor(2 * 0.5 * (0.3 / 0.4) ** 2, dtype=torch.float64)
        weight = ((-0.4 * GRID.times[:-1]).exp() * GRID.lengths).sum()
        assert_close(with_ - without, 1.7 * weight * trust.distance(kl))

    def test_what_is_measured(self, kind: type[TrustPenalty]) -> None:
        """A mean per step: it does not grow with the number of steps."""
        algorithm, trust = ContinuousPPO(clip=None, trust=kind()), kind()
        kl = torch.tensor((0.3 / 0.4) ** 2, dtype=torch.float64)
        found = algorithm.moved(trust, _policy(0.3), _rows())
        assert found == pytest.approx(float(trust.distance(kl)), rel=1e-10)
        assert algorithm.moved(trust, _policy(), _rows()) == pytest.approx(0.0, abs=1e-12)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"coefficient": -1.0}, "coefficient must be a finite number >= 0, got -1"),
            ({"target": 0.0}, "target must be a finite number > 0, got 0"),
            ({"band": 1.0}, r"band must lie in \[0, 1\), got 1.0; 0.1 is usual"),
            ({"factor": 0.5}, "factor must be >= 1, got 0.5; 1 keeps"),
        ],
    )
    def test_bad_numbers_are_named(
        self, kind: type[TrustPenalty], settings: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(CtcontrolError, match=says):
            kind(**settings)


def test_the_root_is_the_root() -> None:
    """√KL, not KL: a move half as long costs half as much, not a quarter."""
    kl = torch.tensor([0.04, 0.01], dtype=torch.float64)
    root = RootKLPenalty(smoothing=1e-8).distance(kl)
    assert_close(root, torch.tensor([0.2, 0.1], dtype=torch.float64), 1e-6)
    assert_close(KLPenalty().distance(kl), kl)


@pytest.mark.parametrize(
    ("start", "rises"), [(1e-3, True), (1e3, False)], ids=["too small", "too large"]
)
def test_training_moves_the_coefficient_towards_the_target(start: float, rises: bool) -> None:
    policy = _policy()
    trust = RootKLPenalty(start, target=0.05)
    algorithm = ContinuousPPO(MonteCarloAdvantage(), clip=None, trust=trust, epochs=4)
    run = improve(
        LINEAR.problem,
        policy,
        algorithm,
        GRID,
        batch=64,
        minibatch=64,
        updater=Updater.adam(policy, 0.02),
        generator=seeded(2),
    )
    coefficients = [start]
    for turn in itertools.islice(run, 4):
        assert isinstance(turn.algorithm, ContinuousPPO)
        assert turn.algorithm.trust is not None
        coefficients.append(turn.algorithm.trust.coefficient)
    ratios = [b / a for a, b in itertools.pairwise(coefficients)]
    assert ratios == pytest.approx([1.5 if rises else 1 / 1.5] * 4)
    assert trust.coefficient == start  # the value that was given is left alone


def test_an_algorithm_that_does_not_adapt_is_itself() -> None:
    for algorithm in (ContinuousPPO(), ContinuousPPO(trust=KLPenalty(factor=1.0))):
        assert algorithm.adapted(_policy(0.3), _rows()) is algorithm
