"""Fine-tuning a diffusion model of a Gaussian mixture: many modes, every answer known."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_kind, check_positive
from ctcontrol._policy import GaussianPolicy
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import PathKL
from ctcontrol._reward import TerminalReward
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value
from ctcontrol.exact.lq._arrays import Numbers, as_array, as_matrix, as_symmetric
from ctcontrol.exact.tilt._mixture import GaussianMixture
from ctcontrol.exact.tilt._reversal import Reversal
from ctcontrol.exact.tilt._schedule import ForwardProcess


class TiltValue(Value):
    """V(t, x) = κ log E^pre[e^{r(Y_T)/κ} | Y_t = x] = κ[log p*_s(x) − log p_s(x) + log Z].

    The optimal value of `MixtureTilt`; derivatives in t and x are exact, by autograd.
    """

    def __init__(self, tilt: "MixtureTilt") -> None:
        super().__init__()
        self.tilt = tilt

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,)."""
        tilt = self.tilt
        level = tilt.level(t)
        ratio = tilt.target.log_prob(x, *level) - tilt.data.log_prob(x, *level)
        return tilt.kl_weight * (ratio + tilt.log_normalizer.to(x))


class PretrainedValue(Value):
    """E^pre[r(Y_T) | Y_t = x] = Σ w_i(x)[r(m_i(x)) − ½tr(K P_i)], over the posterior of the data.

    The value of sampling without control; derivatives in t and x are exact, by autograd.
    """

    def __init__(self, tilt: "MixtureTilt") -> None:
        super().__init__()
        self.tilt = tilt

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V^pre, (batch,)."""
        weights, means, covariances = self.tilt.data.posterior(x, *self.tilt.level(t))
        batch, n, d = means.shape
        reward = self.tilt.reward(means.reshape(batch * n, d)).reshape(batch, n)
        bend = torch.einsum("ij,bnij->bn", self.tilt.quadratic.to(x), covariances)
        return (weights * (reward - 0.5 * bend)).sum(1)


@dataclass(frozen=True, eq=False, init=False)
class MixtureTilt:
    """max E[r(Y_T)] − κ KL(P ‖ P_pre) over scores, for mixture data and r(y) = bᵀy − ½yᵀKy.

    The optimal score is that of the noised target p* ∝ p_data e^{r/κ}, a mixture again. Started
    at the noised data instead of the noised target, it misses p* by what e^{V(0)/κ} would have
    done to the start. (docs/theory, reverse SDE.)

    Args:
        schedule: the forward process.
        data: what the pretrained model generates.
        linear: b, (d,), reward per unit of state.
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
        kl_weight: κ > 0, reward per nat.

    Raises:
        CtcontrolError: shapes that do not fit, or a tilted law without a density.
    """

    schedule: ForwardProcess
    data: GaussianMixture
    linear: Tensor
    quadratic: Tensor
    kl_weight: float
    target: GaussianMixture
    log_normalizer: Tensor

    def __init__(
        self,
        schedule: ForwardProcess,
        data: GaussianMixture,
        *,
        linear: Numbers,
        quadratic: Numbers = 0.0,
        kl_weight: float,
    ) -> None:
        check_kind("schedule", schedule, ForwardProcess, "take VariancePreserving(0.1, 20.0)")
        check_kind("data", data, GaussianMixture, "take GaussianMixture.of(weights, means, ...)")
        d, kappa = data.dimension, check_positive("kl_weight", kl_weight)
        K = as_symmetric("quadratic", as_matrix("quadratic", quadratic, d), d)
        fields = {
            "schedule": schedule,
            "data": data,
            "linear": torch.tensor(as_array("linear", linear, (d,))).to(data.means),
            "quadratic": torch.tensor(K).to(data.means),
            "kl_weight": kappa,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        target, log_normalizer = data.tilted(self.linear / kappa, self.quadratic / kappa)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "log_normalizer", log_normalizer)

    def level(self, t: Time) -> tuple[Scalar, Scalar]:
        """(α, σ²) at control time t, each (batch,), differentiable in t."""
        s = self.schedule.horizon - t
        return self.schedule.alpha(s), self.schedule.variance(s)

    @cached_property
    def start(self) -> GaussianMixture:
        """The law of Y_0: the data noised up to T."""
        T = self.schedule.horizon
        return self.data.noised(self.schedule.alpha(T), self.schedule.variance(T))

    def reward(self, y: State) -> Scalar:
        """r(y), (batch,)."""
        return y @ self.linear.to(y) - 0.5 * torch.einsum("bi,ij,bj->b", y, self.quadratic.to(y), y)

    def pretrained_score(self, t: Time, x: State, context: Context) -> Action:
        """∇log p_s(x)."""
        return self.data.score(x, *self.level(t))

    def optimal_score(self, t: Time, x: State, context: Context) -> Action:
        """∇log p*_s(x) = ∇log p_s(x) + ∇V/κ."""
        return self.target.score(x, *self.level(t))

    def optimal_policy(self) -> GaussianPolicy:
        """The deterministic policy `optimal_score`."""
        return GaussianPolicy(self.optimal_score)

    def value(self) -> TiltValue:
        """The optimal value."""
        return TiltValue(self)

    def pretrained_value(self) -> PretrainedValue:
        """The value of the pretrained score, without penalty since it does not move."""
        return PretrainedValue(self)

    def problem(self) -> ControlProblem:
        """For simulation and learning: terminal reward r, `PathKL` to the pretrained score."""
        return ControlProblem(
            sde=Reversal(self.schedule),
            reward=TerminalReward(lambda y, context: self.reward(y)),
            initial=lambda batch, generator: (self.start.sample(batch, generator), None),
            horizon=self.schedule.horizon,
            regularizer=PathKL(GaussianPolicy(self.pretrained_score), self.kl_weight),
        )

    def optimal_return(self, points: int = 48) -> float:
        """J* = E V(0, Y_0), by Gauss–Hermite quadrature, `points` per axis and component.

        Raises:
            CtcontrolError: more than three dimensions, where the product grid is too large.
        """
        x, weights = self.start_nodes(points)
        return float(weights @ self.value().at(torch.zeros_like(x[:, 0]), x, None))

    def start_nodes(self, points: int) -> tuple[Tensor, Tensor]:
        """Nodes (count, d) and weights (count,) whose sums are expectations under the start."""
        d = self.data.dimension
        if d > 3:
            raise CtcontrolError(
                f"quadrature on a product grid takes at most 3 dimensions, got {d}; average "
                "value().at over samples of start instead"
            )
        axis, weight = np.polynomial.hermite_e.hermegauss(points)
        grid = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), -1).reshape(-1, d)
        product = np.stack(np.meshgrid(*[weight] * d, indexing="ij"), -1).reshape(-1, d).prod(1)
        nodes = torch.tensor(grid).to(self.start.means)
        share = torch.tensor(product / product.sum()).to(nodes)
        root = torch.linalg.cholesky(self.start.covariances)
        x = self.start.means[:, None] + torch.einsum("nij,pj->npi", root, nodes)
        return x.flatten(0, 1), (self.start.weights[:, None] * share).flatten()
