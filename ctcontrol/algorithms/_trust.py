"""How far a policy may move: penalties on the KL of its actions, with adaptive coefficients."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive


@dataclass(frozen=True)
class TrustPenalty(ABC):
    """Subtracts C · E Σ_k e^{−ρt_k} Δ_k d(KL_k) from a surrogate, KL_k = KL(π_old ‖ π)(t_k, X_k).

    What is subtracted bounds the error of the surrogate for C large enough, which makes their
    difference a lower bound of J (docs/theory, surrogate). The bound's C is far too careful, so
    after each iteration C is multiplied by `factor` where the mean of d over the rollout,
    weighted by e^{−ρt}Δ, is above (1 + band) · target, and divided by it where that mean is below
    (1 − band) · target.

    Attributes:
        coefficient: C ≥ 0, in units of reward per unit of d and of time.
        target: δ > 0, the mean of d to be kept, per step.
        band: ε in [0, 1), the width of the band that is left alone.
        factor: ≥ 1; 1 keeps C.

    Raises:
        CtcontrolError: a number out of its range.
    """

    coefficient: float = 1.0
    target: float = 0.02
    band: float = 0.1
    factor: float = 1.5

    def __post_init__(self) -> None:
        check_nonnegative("coefficient", self.coefficient)
        check_positive("target", self.target)
        if not 0 <= self.band < 1:
            raise CtcontrolError(f"band must lie in [0, 1), got {self.band}; 0.1 is usual")
        if not check_positive("factor", self.factor) >= 1:
            raise CtcontrolError(
                f"factor must be >= 1, got {self.factor}; 1 keeps the coefficient as it is"
            )

    @abstractmethod
    def distance(self, kl: Tensor) -> Tensor:
        """d(KL), row by row; 0 with gradient 0 at KL = 0."""

    def adapted(self, measured: float) -> Self:
        """The same with the coefficient that follows a mean distance of `measured`."""
        if measured > (1 + self.band) * self.target:
            return replace(self, coefficient=self.coefficient * self.factor)
        if measured < (1 - self.band) * self.target:
            return replace(self, coefficient=self.coefficient / self.factor)
        return self


@dataclass(frozen=True)
class KLPenalty(TrustPenalty):
    """d = KL in nats: for a finite horizon and actions that move the drift by a bounded gain.

    With |μ′ − μ|² = 2ς² KL the error of the surrogate is at most of order KL, without a root
    (docs/theory, surrogate).
    """

    def distance(self, kl: Tensor) -> Tensor:
        return kl


@dataclass(frozen=True)
class RootKLPenalty(TrustPenalty):
    """d = √(KL + s²) − s: the penalty of CPPO for a discounted problem without a horizon.

    Zhao, Tang and Yao 2023 (2305.18901): the law of the state moves by at most a multiple of
    √KL. The root has no gradient at KL = 0, where every iteration begins; the small s gives it
    one, 0, and lowers it by s at most.

    Attributes:
        smoothing: s > 0, in √nats.
    """

    smoothing: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("smoothing", self.smoothing)

    def distance(self, kl: Tensor) -> Tensor:
        return (kl.clamp_min(0) + self.smoothing**2).sqrt() - self.smoothing
