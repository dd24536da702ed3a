"""Pinned values: what is frozen, what is learned, and what the mean action is for."""

import torch
from torch import Tensor, nn

from ctcontrol import CosSin, Linear, PinnedValue, Scalar, State, Time, Value
from tests.helpers import assert_close, normal
from tests.tables import Network


class Guess(nn.Module):
    """A frozen reward with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0).double())

    def forward(self, t: Tensor, x: Tensor, context: object, mean: Tensor | None) -> Tensor:
        center = x if mean is None else x + mean
        return self.scale * center.square().sum(1)


def test_the_combination() -> None:
    network, x = Network(2), normal(3, 2)
    t = torch.tensor([0.0, 1.0, 2.0]).double()
    value = PinnedValue(Guess(), network, CosSin(2.0))
    guess, residual = Guess()(t, x, None, None), network(t, x, None)
    c_out = torch.tensor([1, 0.5, 0]).double().sqrt()
    c_in = c_out.flip(0)
    assert_close(value.at(t, x, None), c_in * guess + c_out * residual)


def test_the_guess_is_neither_trained_nor_saved() -> None:
    guess, network = Guess(), Network(2)
    value = PinnedValue(guess, network, Linear(1.0))
    trained = set(value.parameters())
    assert guess.scale not in trained
    assert trained == set(network.parameters())
    assert all(name.startswith("residual.") for name in value.state_dict())
    assert value.to(torch.float32).state_dict()["residual.body.0.weight"].dtype == torch.float32
    assert guess.scale.dtype == torch.float64


def test_the_mean_action_reaches_the_guess_as_a_constant() -> None:
    value = PinnedValue(Guess(), Network(2), Linear(1.0))
    t, x, mean = torch.ones(4).double(), normal(4, 2, seed=1), normal(4, 2, seed=2)
    assert_close(value.at(t, x, None, mean), 2 * (x + mean).square().sum(1))
    assert_close(value.gradient(t, x, None, mean), 4 * (x + mean))
    assert_close(value.jet(t, x, None, mean).gradient, 4 * (x + mean))
    assert_close(value.along(t, x, mean, None, mean), (4 * (x + mean) * mean).sum(1))
    assert_close(value.gradient(t, x, None), 4 * x)


class Polynomial(Value):
    """Values of every degree in x and t."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree

    def at(self, t: Time, x: State, context: object, mean: object = None) -> Scalar:
        return (t * x.sum(1)) ** self.degree if self.degree else torch.ones_like(t)


def test_constant_and_linear_values_have_derivatives_too() -> None:
    t, x = torch.full((3,), 0.5).double(), normal(3, 2)
    flat = Polynomial(0).jet(t, x, None, hessian=True)
    assert flat.hessian is not None
    assert not bool(flat.gradient.any() or flat.time.any() or flat.hessian.any())
    straight = Polynomial(1).jet(t, x, None, hessian=True)
    assert straight.hessian is not None
    assert_close(straight.gradient, 0.5)
    assert_close(straight.time, x.sum(1))
    assert not bool(straight.hessian.any())
    curved = Polynomial(2).jet(t, x, None, hessian=True)
    assert curved.hessian is not None
    assert_close(curved.hessian, 0.5)


def test_gradients_of_images() -> None:
    class Energy(Value):
        def at(self, t: Time, x: State, context: object, mean: object = None) -> Scalar:
            return x.square().flatten(1).sum(1)

    x = normal(2, 3, 4, 4)
    assert_close(Energy().gradient(torch.zeros(2).double(), x, None), 2 * x)
