"""Running terms that see the law of the action, not the action that was drawn."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from ctcontrol._checks import check_nonnegative
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._sde import ControlledSDE, UncontrolledVolatilitySDE, of_kind
from ctcontrol._typing import Context, Scalar, State, Time
from ctcontrol.solvers import Solver


class Regularizer(ABC):
    """Adds −`weight` · amount to the reward of every step.

    The simulation records the amount; an algorithm recomputes it with gradients, because its
    direct gradient is a part of the policy gradient (docs/theory, policy gradient).
    """

    @property
    @abstractmethod
    def weight(self) -> float:
        """Reward lost per unit of the amount, ≥ 0."""

    @abstractmethod
    def anchor(self, t: Time, x: State, context: Context) -> Tensor | None:
        """What the amount needs besides the policy; evaluated once in a rollout and kept."""

    @abstractmethod
    def amount(
        self,
        solver: Solver,
        sde: ControlledSDE,
        t0: Time,
        t1: Time,
        x: State,
        law: Gaussian,
        anchor: Tensor | None,
        context: Context,
    ) -> Scalar:
        """The amount over the whole step [t0, t1] (not a rate), differentiable in `law`."""


@dataclass(frozen=True, eq=False)
class PathKL(Regularizer):
    """κ · KL of the chain to the chain of `reference`, step by step and exact.

    amount_k = KL(step law at the mean action ‖ step law at the reference's mean action). Its
    sum over steps, in expectation under the *fine-tuned* process, is KL(P ‖ P_ref); for small
    steps ½∫|σ⁻¹(b(μ) − b(μ_ref))|² dt (Girsanov; docs/theory, path KL). The mean is penalised,
    not the drawn action, so exploration does not count as divergence.

    Attributes:
        reference: the policy to stay close to.
        kl_weight: κ ≥ 0, reward per nat.
    """

    reference: Policy
    kl_weight: float

    def __post_init__(self) -> None:
        check_nonnegative("kl_weight", self.kl_weight)

    @property
    def weight(self) -> float:
        return self.kl_weight

    def anchor(self, t: Time, x: State, context: Context) -> Tensor:
        return self.reference.dist(t, x, context).mean

    def amount(
        self,
        solver: Solver,
        sde: ControlledSDE,
        t0: Time,
        t1: Time,
        x: State,
        law: Gaussian,
        anchor: Tensor | None,
        context: Context,
    ) -> Scalar:
        assert anchor is not None
        remedy = "paths of different volatility have no finite KL; use Entropy"
        shared = of_kind(sde, UncontrolledVolatilitySDE, "PathKL", remedy)
        return solver.step_kl(shared, t0, t1, x, law.mean, anchor, context)


@dataclass(frozen=True)
class Entropy(Regularizer):
    """λ · entropy of the policy: amount = −∫H(π) dt over the step, so reward gains λ H(π) dt.

    Attributes:
        temperature: λ ≥ 0, reward per nat and unit of time.
    """

    temperature: float

    def __post_init__(self) -> None:
        check_nonnegative("temperature", self.temperature)

    @property
    def weight(self) -> float:
        return self.temperature

    def anchor(self, t: Time, x: State, context: Context) -> None:
        return None

    def amount(
        self,
        solver: Solver,
        sde: ControlledSDE,
        t0: Time,
        t1: Time,
        x: State,
        law: Gaussian,
        anchor: Tensor | None,
        context: Context,
    ) -> Scalar:
        return -law.entropy() * (t1 - t0)
