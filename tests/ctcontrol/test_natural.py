"""Natural gradients: the step against linear algebra, the line search, and what is refused."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import (
    ContinuousPPO,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    KLPenalty,
    LearnedStd,
    MonteCarloAdvantage,
    NaturalUpdater,
    NumericalError,
    TimeGrid,
    improve,
    simulate,
)
from ctcontrol._conjugate import conjugate_gradients
from tests.helpers import assert_close, normal, seeded
from tests.problems import regulator

GRID = TimeGrid.uniform(1.2, 6)
LINEAR = regulator(temperature=0.2)


def test_conjugate_gradients_solve_every_row() -> None:
    roots = normal(3, 4, 4, seed=1)
    H, b = roots @ roots.mT + 0.1 * torch.eye(4, dtype=torch.float64), normal(3, 4, seed=2)
    b[1] = 0  # a row that is solved already must not disturb the others
    x = conjugate_gradients(lambda v: torch.einsum("bij,bj->bi", H, v), b, 12)
    assert_close(x, torch.linalg.solve(H, b), 1e-9)
    once = conjugate_gradients(lambda v: 3 * v, normal(2, 3, 5, seed=3), 1)
    assert_close(once, normal(2, 3, 5, seed=3) / 3)  # one step where all directions are alike


class _Point(nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(start[:2].clone()), nn.Parameter(start[2:].clone())

    def flat(self) -> Tensor:
        return torch.cat([self.a, self.b])


class TestStep:
    root = normal(3, 3, seed=4)
    F = root @ root.mT + 0.2 * torch.eye(3, dtype=torch.float64)
    g = normal(3, seed=5)

    def _again(self, point: _Point, start: Tensor, bend: float) -> tuple[Tensor, Tensor]:
        move = point.flat() - start
        return self.g @ move + bend * (move @ move), 0.5 * move @ self.F @ move

    def _step(self, bend: float, radius: float = 0.02) -> tuple[Tensor, float]:
        start = normal(3, seed=6)
        point = _Point(start)
        updater = NaturalUpdater(point, radius, iterations=20, damping=0.0)
        loss = self._again(point, start, bend)[0]
        norm = updater.step(loss, lambda: self._again(point, start, bend))
        return point.flat().detach() - start, norm

    def test_is_the_inverse_metric_times_the_gradient_on_the_boundary(self) -> None:
        move, norm = self._step(0.0)
        s = torch.linalg.solve(self.F, self.g)
        assert_close(move, -s * (2 * 0.02 / (s @ self.F @ s)).sqrt(), 1e-9)
        assert norm == pytest.approx(float(self.g.norm()))

    def test_is_shortened_until_the_loss_falls(self) -> None:
        """A loss that bends up strongly: the full step raises it, less than a third does not."""
        full, _ = self._step(0.0)
        bend = float(-(self.g @ full) / (full @ full))  # the loss at the full step is what it was
        short, _ = self._step(3 * bend)
        assert_close(short, 0.8**5 * full, 1e-9)

    def test_nothing_moves_where_nothing_helps(self) -> None:
        move, _ = self._step(1e9)
        assert_close(move, 0.0, 0.0)


def _setting(std: float = 0.4) -> tuple[GaussianPolicy, ContinuousPPO]:
    policy = GaussianPolicy(LINEAR.mean(LINEAR.zero, LINEAR.k0), LearnedStd(std))
    return policy, ContinuousPPO(MonteCarloAdvantage(), clip=None, trust=KLPenalty(factor=1.0))


def test_the_metric_is_the_fisher_information() -> None:
    """One step on a Gaussian policy moves like the Fisher matrix computed from outer products."""
    policy, algorithm = _setting()
    path = simulate(LINEAR.problem, policy, GRID, 400, generator=seeded(1))
    rows = path.transitions(signal=algorithm.signal(LINEAR.problem, EulerMaruyama(), None, path))
    parameters = list(policy.parameters())

    def again() -> tuple[Tensor, Tensor]:
        result = algorithm.loss(LINEAR.problem, EulerMaruyama(), policy, rows)
        assert result.law is not None
        return result.loss, rows.law.kl(result.law).mean()

    loss = again()[0]
    g = torch.cat([x.flatten() for x in torch.autograd.grad(loss, parameters, retain_graph=True)])
    J, spread = _jacobian(policy, rows.t0, rows.x), 0.4
    fisher = torch.einsum("bdi,bdj->ij", J, J) / len(rows) / spread**2
    F = torch.block_diag(fisher, torch.tensor([[4.0]], dtype=torch.float64))  # 2 per coordinate
    before = torch.cat([p.detach().flatten().clone() for p in parameters])
    NaturalUpdater(policy, 1e-6, iterations=30, damping=0.0).step(loss, again)
    move = torch.cat([p.detach().flatten() for p in parameters]) - before
    s = torch.linalg.solve(F, g)
    assert_close(move, -s * math.sqrt(2e-6 / float(s @ g)), 1e-3)


def _jacobian(policy: GaussianPolicy, t: Tensor, x: Tensor) -> Tensor:
    """∂mean/∂(K, k): mean = base + k − K x."""
    eye = torch.eye(2, dtype=torch.float64)
    by_gain = -torch.einsum("de,bf->bdef", eye, x).flatten(2)
    return torch.cat([by_gain, eye.expand(len(x), 2, 2)], 2)


def test_training_ascends_and_stays_within_the_radius() -> None:
    policy, algorithm = _setting()
    updater = NaturalUpdater(policy, 0.02)
    before = copy.deepcopy(policy)
    run = improve(
        LINEAR.problem,
        policy,
        algorithm,
        GRID,
        batch=400,
        minibatch=400 * GRID.steps,
        updater=updater,
        generator=seeded(3),
    )
    for turn in itertools.islice(run, 30):
        assert turn.updates == 1
        rows = turn.trajectory.transitions()
        with torch.no_grad():
            law = policy.dist(rows.t0, rows.x, None)
        assert float(rows.law.kl(law).mean()) <= 0.02 * (1 + 1e-6)
    assert _regret(policy) < 0.1 * _regret(before)


def _regret(policy: GaussianPolicy) -> float:
    K, k, log_std = (p.detach() for p in policy.parameters())
    parts = [
        p.clone().requires_grad_() for p in (LINEAR.zero, LINEAR.k0, torch.tensor(-1.0).double())
    ]
    optimizer = torch.optim.LBFGS(parts, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -LINEAR.expected_return(GRID, parts[0], parts[1], parts[2].exp())
        value.backward()
        return value

    optimizer.step(loss)
    return -float(loss().detach()) - float(LINEAR.expected_return(GRID, K, k, log_std.exp()))


class TestDoors:
    def test_without_the_functions(self) -> None:
        policy, _ = _setting()
        says = "as functions of the parameters; give `again`, or use Updater"
        with pytest.raises(CtcontrolError, match=says):
            NaturalUpdater(policy).step(next(policy.parameters()).sum())

    def test_nothing_to_train(self) -> None:
        with pytest.raises(CtcontrolError, match="Linear has no trainable parameters"):
            NaturalUpdater(nn.Linear(2, 2).requires_grad_(False))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_bad_loss_changes_nothing(self, bad: float) -> None:
        point = _Point(normal(3, seed=7))
        before = point.flat().detach().clone()
        with pytest.raises(NumericalError, match=f"the loss is {bad}"):
            NaturalUpdater(point).step(
                bad * point.flat().sum(), lambda: (point.flat().sum(), point.flat().square().sum())
            )
        assert torch.equal(before, point.flat())

    def test_bad_numbers(self) -> None:
        with pytest.raises(CtcontrolError, match="radius must be a finite number > 0, got 0"):
            NaturalUpdater(nn.Linear(2, 2), 0.0)
        with pytest.raises(CtcontrolError, match=r"backtrack must lie in \(0, 1\), got 1"):
            NaturalUpdater(nn.Linear(2, 2), backtrack=1.0)

    def test_there_is_no_state(self) -> None:
        updater = NaturalUpdater(nn.Linear(2, 2))
        updater.load_state_dict(updater.state_dict())
        assert updater.state_dict() == {}
