from typing import Any

import torch
from torch import Tensor

from ctcontrol import CosSin, PinnedValue, like
from ctcontrol_diffusion.score import denoise
from ctcontrol_diffusion.values import DenoisedGuess, PixelResidual
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.helpers import assert_close, normal

SLOPE = normal(2, 3, seed=9)


def linear(x: Tensor, context: object) -> Tensor:
    return (x * SLOPE).flatten(1).sum(1) + 0.3


def smooth(x: Tensor, context: object) -> Tensor:
    return (x * SLOPE).flatten(1).sum(1).sin() + x.flatten(1).square().sum(1)


def terminal(x: Tensor, context: object) -> Tensor:
    """Not the reward of clean states: what is at the horizon need not be clean."""
    return x.flatten(1).cos().sum(1)


def guess(
    model: GaussianModel, reward: Any = smooth, data_variance: float | None = None
) -> DenoisedGuess:
    v = model.variance if data_variance is None else data_variance
    return DenoisedGuess(model.score, model.schedule, reward, terminal, v)


def rows(times: list[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor(times, dtype=torch.float64), normal(len(times), 2, 3)


def gradient(of: DenoisedGuess, t: Tensor, x: Tensor, mean: Tensor | None) -> Tensor:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(of(t, x, None, mean).sum(), x)
    return slope


def test_at_the_horizon_it_is_the_terminal_reward_exactly() -> None:
    model = GaussianModel(floor=0.02)
    t, x = rows([0.5, model.schedule.horizon, 0.9, model.schedule.horizon])
    at_end = t == model.schedule.horizon
    for mean in (None, model.score(t, x)):
        value = guess(model)(t, x, None, mean)
        assert torch.equal(value[at_end], terminal(x, None)[at_end])
        clean = denoise(model.schedule, t, x, model.score(t, x))
        assert_close(value[~at_end], smooth(clean, None)[~at_end])
        assert bool(((value - terminal(x, None))[~at_end].abs() > 1e-3).all())


def test_the_horizon_is_recognized_in_single_precision() -> None:
    model = GaussianModel(floor=0.02)
    t, x = rows([model.schedule.horizon])
    assert torch.equal(guess(model)(t.float(), x, None), terminal(x, None))


def test_a_pinned_value_ends_in_the_terminal_reward() -> None:
    model = GaussianModel(floor=0.02)
    residual = PixelResidual(model.schedule, 6, 2, 8).double()
    torch.nn.init.ones_(residual.head.bias)
    value = PinnedValue(guess(model), residual, CosSin(model.schedule.horizon))
    t, x = rows([model.schedule.horizon, 0.4])
    at = value.at(t, x, torch.tensor([0, 1]))
    assert at[0].item() == terminal(x, None)[0].item()
    assert {id(p) for p in value.parameters()} == {id(p) for p in residual.parameters()}


def test_a_linear_reward_has_this_value_without_control() -> None:
    """E[r(Y_T) | Y_t = x] by the mean of the reverse SDE, integrated, against r(x̂₀(t, x))."""
    model = GaussianModel(entries=200)
    t, x = rows([0.0, 0.3, 0.75])
    steps, mean = 2000, x.clone()
    for j in range(steps):
        h = (1 - t) / steps
        a, b = t + j * h, t + (j + 0.5) * h
        # midpoint rule: E[drift] = drift at the mean, as the score is affine
        half = mean + like(h / 2, x) * model.sde.drift(a, mean, model.score(a, mean), None)
        mean = mean + like(h, x) * model.sde.drift(b, half, model.score(b, half), None)
    torch.testing.assert_close(
        guess(model, linear)(t, x, None), linear(mean, None), rtol=1e-3, atol=1e-3
    )


def test_the_given_mean_action_saves_an_evaluation_and_changes_nothing() -> None:
    model, (t, x) = GaussianModel(), rows([0.1, 0.5, 0.9])
    calls: list[int] = []

    def counted(t: Tensor, x: Tensor, context: object) -> Tensor:
        calls.append(1)
        return model.score(t, x)

    made = DenoisedGuess(counted, model.schedule, smooth, terminal, model.variance)
    recomputed = made(t, x, None)
    assert len(calls) == 1
    assert_close(made(t, x, None, model.score(t, x)), recomputed)
    assert_close(made(t, x.clone().requires_grad_(), None, model.score(t, x)), recomputed)
    assert len(calls) == 1


def test_the_approximate_slope_is_exact_for_isotropic_gaussian_data() -> None:
    model, (t, x) = GaussianModel(), rows([0.1, 0.5, 0.9])
    full = gradient(guess(model), t, x, None)
    assert_close(gradient(guess(model), t, x, model.score(t, x)), full)
    # the derivative of x̂₀ alone, with the score held, is 1/α: too long by (α²v + σ²)/(α²v)
    other = gradient(guess(model, data_variance=1e12), t, x, model.score(t, x))
    alpha, S = model.schedule.alpha(t), model.spread(t)
    assert_close(other * like(alpha**2 * model.variance / S, x), full, 1e-9)


def test_the_slope_does_not_pass_through_the_given_mean() -> None:
    model, (t, x) = GaussianModel(), rows([0.1, 0.5, 0.9])
    x.requires_grad_()
    mean = model.score(t, x)
    (slope,) = torch.autograd.grad(guess(model)(t, x, None, mean.detach()).sum(), x)
    again = gradient(guess(model), t, x.detach(), mean.detach())
    assert_close(slope, again)


class TestPixelResidual:
    def make(self, width: int = 8) -> PixelResidual:
        return PixelResidual(GaussianModel().schedule, 16, 5, width)

    def rows(self, n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
        x = normal(n, 1, 4, 4, dtype=torch.float32)
        return torch.linspace(0, 1, n), x, torch.arange(n) % 5

    def test_zero_at_the_start_and_trainable(self) -> None:
        residual, (t, x, labels) = self.make(), self.rows()
        value = residual(t, x, labels)
        assert torch.equal(value, torch.zeros(6))
        value.sum().backward()
        assert residual.head.weight.grad is not None
        assert bool(residual.head.weight.grad.any())

    def test_rows_do_not_see_each_other(self) -> None:
        residual, (t, x, labels) = self.make(), self.rows()
        torch.nn.init.normal_(residual.head.weight)
        whole = residual(t, x, labels)
        order = torch.tensor([4, 1, 1])
        part = residual(t[order], x[order], labels[order])
        torch.testing.assert_close(part, whole[order], rtol=1e-5, atol=1e-6)

    def test_it_sees_time_image_and_prompt(self) -> None:
        residual, (t, x, labels) = self.make(), self.rows()
        torch.nn.init.normal_(residual.head.weight)
        base = residual(t, x, labels)
        for changed in (
            residual(1 - t, x, labels),
            residual(t, -x, labels),
            residual(t, x, (labels + 1) % 5),
        ):
            assert bool(((changed - base).abs() > 1e-4).any())

    def test_only_weights_are_saved(self) -> None:
        names = set(self.make().state_dict())
        assert names == {f"{layer}.{kind}" for layer in ("body.0", "body.2", "head")
                         for kind in ("weight", "bias")}  # fmt: skip
        assert self.make(32).head.in_features == 32
