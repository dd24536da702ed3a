"""One step of an optimiser, with clipping and a guard."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ctcontrol import CtcontrolError, NumericalError, Updater, WarmupCosine
from tests.helpers import assert_close


def _line() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 1)


def test_the_gradient_is_clipped_and_its_norm_returned() -> None:
    module = _line()
    before = [p.detach().clone() for p in module.parameters()]
    updater = Updater(module, torch.optim.SGD(module.parameters(), lr=1.0), clip_norm=0.5)
    loss = torch.stack([10 * p.sum() for p in module.parameters()]).sum()
    assert updater.step(loss) == pytest.approx(20.0)  # four slopes of ten
    moved = [b - p.detach() for b, p in zip(before, module.parameters(), strict=True)]
    assert_close(torch.cat([m.flatten() for m in moved]).norm(), 0.5, 1e-5)


def test_a_small_gradient_is_left_alone() -> None:
    module = _line()
    updater = Updater(module, torch.optim.SGD(module.parameters(), lr=1.0), clip_norm=100.0)
    before = module.bias.detach().clone()
    assert updater.step(3 * module.bias.sum()) == pytest.approx(3.0)
    assert_close(before - module.bias.detach(), 3.0, 1e-6)


def test_gradients_do_not_pile_up() -> None:
    module = _line()
    updater = Updater(module, torch.optim.SGD(module.parameters(), lr=1.0), clip_norm=100.0)
    norms = [updater.step(3 * module.bias.sum()) for _ in range(3)]
    assert norms == pytest.approx([3.0] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_loss_changes_nothing(bad: float) -> None:
    module = _line()
    updater = Updater.adam(module, 0.1)
    updater.step(module.bias.sum())
    before = copy.deepcopy((module.state_dict(), updater.state_dict()))
    with pytest.raises(NumericalError, match=f"the loss is {bad}.*lower the learning rate"):
        updater.step(bad * module.bias.sum())
    assert all(torch.equal(before[0][k], v) for k, v in module.state_dict().items())
    assert str(before[1]) == str(updater.state_dict())
    assert math.isfinite(updater.step(module.bias.sum()))


def test_a_bad_gradient_of_a_good_loss_changes_nothing() -> None:
    module = _line()
    updater = Updater.adam(module, 0.1)
    before = copy.deepcopy(module.state_dict())
    loss = (module.bias - module.bias.detach()).abs().sqrt().sum()  # 0, with infinite slope
    with pytest.raises(NumericalError, match=r"the loss is 0 with gradient norm (nan|inf)"):
        updater.step(loss)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_frozen_parameters_stay() -> None:
    module = _line()
    module.weight.requires_grad_(False)
    before = module.weight.detach().clone()
    updater = Updater.adam(module, 0.1, weight_decay=0.5)
    updater.step(module(torch.ones(2, 3)).sum())
    assert torch.equal(module.weight, before)
    assert len(updater.parameters) == 1


def test_state_continues_where_it_was() -> None:
    one, two = _line(), _line()
    first, second = (Updater.adam(m, 0.1) for m in (one, two))
    for _ in range(3):
        first.step(one(torch.ones(1, 3)).square().sum())
    two.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for module, updater in ((one, first), (two, second)):
        updater.step(module(torch.ones(1, 3)).square().sum())
    assert torch.equal(one.weight, two.weight)


def _descend(module: nn.Linear, updater: Updater, times: int) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    for _ in range(times):
        updater.step((module(torch.ones(1, 3)) - 2).square().sum())
        seen.append(copy.deepcopy(module.state_dict()))
    return seen


def _updater(module: nn.Linear, kind: str, **settings: Any) -> Updater:
    if kind == "adam":
        return Updater.adam(module, 0.1, **settings)
    return Updater(module, torch.optim.SGD(module.parameters(), lr=0.1), **settings)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_average_is_the_mean_of_the_last_weights(kind: str) -> None:
    """The path is that of an updater that keeps none, and the first weights are not in it."""
    module, plain = _line(), _line()
    updater = _updater(module, kind, average_from=2)
    seen, expected = _descend(module, updater, 5), _descend(plain, _updater(plain, kind), 5)
    assert all(torch.equal(seen[-1][k], v) for k, v in expected[-1].items())
    updater.use_average()
    for name, value in module.state_dict().items():
        assert_close(value, torch.stack([s[name] for s in expected[2:]]).mean(0), 1e-6)
        assert float((value - expected[-1][name]).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_average_continues_where_it_was(kind: str) -> None:
    one, two = _line(), _line()
    first, second = (_updater(m, kind, average_from=1) for m in (one, two))
    _descend(one, first, 3)
    two.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for module, updater in ((one, first), (two, second)):
        _descend(module, updater, 2)
        updater.use_average()
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


def test_there_is_no_average_before_its_first_update() -> None:
    module = _line()
    updater = Updater.adam(module, 0.1, average_from=3)
    last = _descend(module, updater, 3)[-1]
    assert "average" not in str(updater.state_dict())
    updater.use_average()
    assert torch.equal(module.weight, last["weight"])


def test_nothing_to_train_is_named() -> None:
    module = _line().requires_grad_(False)
    with pytest.raises(CtcontrolError, match="Linear has no trainable parameters"):
        Updater.adam(module, 0.1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a finite number > 0, got 0"),
        ({"learning_rate": 0.1, "clip_norm": -1.0}, "clip_norm must be a finite number > 0"),
        ({"learning_rate": 0.1, "average_from": -1}, "average_from must be a whole number >= 0"),
    ],
)
def test_bad_numbers_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(CtcontrolError, match=says):
        Updater.adam(_line(), **settings)


def test_warmup_and_cosine() -> None:
    """A straight line to 1, then half a cosine to the final factor, then that."""
    factor = WarmupCosine(warmup=4, total=12, final=0.2)
    assert [factor(k) for k in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factor(4) == pytest.approx(1.0)
    assert factor(8) == pytest.approx(0.6)
    assert [factor(k) for k in (12, 13, 1000)] == pytest.approx([0.2] * 3)
    assert WarmupCosine(warmup=0, total=1)(0) == pytest.approx(1.0)
    short = WarmupCosine(warmup=4, total=2, final=0.2)  # a run that ends while warming up
    assert [short(k) for k in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"warmup": -1, "total": 5}, "warmup must be a finite number >= 0, got -1"),
        ({"warmup": 1, "total": 5, "final": -0.1}, "final must be a finite number >= 0, got -0.1"),
        ({"warmup": 1, "total": -5}, "total must be a finite number >= 0, got -5"),
    ],
)
def test_bad_schedules_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(CtcontrolError, match=says):
        WarmupCosine(**settings)


def _scheduled(module: nn.Linear) -> Updater:
    optimizer = torch.optim.SGD(module.parameters(), lr=2.0)
    return Updater(module, optimizer, clip_norm=100.0, schedule=lambda k: 1.0 / (k + 1))


def test_the_schedule_scales_the_full_rate_by_the_update_number() -> None:
    module = _line()
    updater, moves = _scheduled(module), []
    for _ in range(3):
        before = float(module.bias.detach())
        updater.step(module.bias.sum())
        moves.append(before - float(module.bias.detach()))
    assert moves == pytest.approx([2.0, 1.0, 2 / 3], rel=1e-5)


def test_the_update_number_is_saved_and_a_bad_loss_is_no_update() -> None:
    module = _line()
    first, second = _scheduled(module), _scheduled(module)
    first.step(module.bias.sum())
    with pytest.raises(NumericalError):
        first.step(float("nan") * module.bias.sum())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    before = float(module.bias.detach())
    second.step(module.bias.sum())
    assert before - float(module.bias.detach()) == pytest.approx(1.0, rel=1e-5)
