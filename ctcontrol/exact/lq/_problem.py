"""The linear-quadratic problem: a control problem whose every answer is known."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol.exact.lq._arrays import (
    Array,
    Numbers,
    as_array,
    as_definite,
    as_matrix,
    as_semidefinite,
)
from ctcontrol.exact.lq._chain import EulerMaruyamaChain
from ctcontrol.exact.lq._dynamics import GaussianInitialLaw, QuadraticReward, linear_sde
from ctcontrol.exact.lq._skeleton import Skeleton
from ctcontrol.exact.lq._system import AnyPolicy, Coefficients, LinearQuadraticSystem, as_law
from ctcontrol.exact.lq._value_function import Quadratic


@dataclass(frozen=True, eq=False, kw_only=True)
class LQProblem(LinearQuadraticSystem):
    """dX = (AX + Bu)dt + σdW, maximize E[−∫e^{−ρt}(XᵀQX + 2XᵀSu + uᵀRu)dt − e^{−ρT}X_TᵀGX_T].

    Every exact quantity is computed in float64 by numpy and scipy (docs/theory, linear-quadratic
    problems). With `temperature` λ > 0 the return also gains λ ∫ e^{−ρt} entropy(π_t) dt.

    Attributes:
        A: (d, d), per unit of time.
        B: (d, m), drift per unit of action, per unit of time.
        Q: (d, d) symmetric positive semidefinite, cost per unit of time.
        R: (m, m) symmetric positive definite, cost per unit of time.
        G: (d, d) symmetric positive semidefinite, cost at the horizon.
        volatility: σ, (d, k), per square root of a unit of time; a number is that multiple of I.
        horizon: T > 0.
        initial_mean: (d,), E X_0.
        initial_covariance: (d, d) positive semidefinite; a number is that multiple of I.
        S: (d, m), cross cost per unit of time; 0 by default.
        discount: ρ ≥ 0, per unit of time.
        temperature: λ ≥ 0, reward per nat of entropy and unit of time.

    Raises:
        CtcontrolError: shapes that do not fit, a matrix that is not symmetric, semidefinite or
            definite as stated, [[Q, S], [Sᵀ, R]] that is not positive semidefinite, a horizon
            that is not positive, a negative discount or temperature, or NaN anywhere.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    G: Array
    volatility: Array
    horizon: float
    initial_mean: Array
    initial_covariance: Array
    S: Array
    discount: float
    temperature: float

    def __init__(
        self,
        *,
        A: Numbers,
        B: Numbers,
        Q: Numbers,
        R: Numbers,
        G: Numbers,
        volatility: Numbers,
        horizon: float,
        initial_mean: Numbers,
        initial_covariance: Numbers = 0.0,
        S: Numbers | None = None,
        discount: float = 0.0,
        temperature: float = 0.0,
    ) -> None:
        A_, B_ = as_array("A", A), as_array("B", B)
        if A_.ndim != 2 or A_.shape[0] != A_.shape[1] or len(A_) == 0:
            raise CtcontrolError(f"A must be a square matrix (states, states), got {A_.shape}")
        d = len(A_)
        if B_.ndim != 2 or len(B_) != d or B_.shape[1] == 0:
            raise CtcontrolError(
                f"B must be a matrix (states, actions) with {d} rows like A, got shape {B_.shape}"
            )
        m = B_.shape[1]
        spread = as_matrix("initial_covariance", initial_covariance, d)
        fields = {
            "A": A_,
            "B": B_,
            "Q": as_semidefinite("Q", Q, d),
            "R": as_definite("R", R, m),
            "G": as_semidefinite("G", G, d),
            "S": as_array("S", np.zeros((d, m)) if S is None else S, (d, m)),
            "volatility": as_matrix("volatility", volatility, d),
            "horizon": check_positive("horizon", horizon),
            "initial_mean": as_array("initial_mean", initial_mean, (d,)),
            "initial_covariance": as_semidefinite("initial_covariance", spread, d),
            "discount": check_nonnegative("discount", discount),
            "temperature": check_nonnegative("temperature", temperature),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.S.any():
            joint = np.block([[self.Q, self.S], [self.S.T, self.R]])
            as_semidefinite("the cost matrix [[Q, S], [Sᵀ, R]]", joint, d + m)

    @property
    def states(self) -> int:
        """d, the number of state coordinates."""
        return len(self.A)

    @property
    def actions(self) -> int:
        """m, the number of action coordinates."""
        return self.B.shape[1]

    @property
    def diffusion(self) -> Array:
        """Ξ = σσᵀ, (d, d)."""
        return self.volatility @ self.volatility.T

    @property
    def terminal(self) -> Quadratic:
        """h(x) = −xᵀGx."""
        return Quadratic(self.G, np.zeros(self.states), np.zeros(()))

    def coefficients(self, t: float) -> Coefficients:
        """The same at all times."""
        return self._coefficients

    @cached_property
    def _coefficients(self) -> Coefficients:
        none = np.zeros(self.states)
        return Coefficients(self.A, self.B, none, self.Q, self.R, self.S, self.diffusion)

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """The same problem for simulation and learning, with tensors of this dtype and device."""
        return ControlProblem(
            sde=linear_sde(self.A, self.B, self.volatility, dtype, device),
            reward=QuadraticReward.of(self.Q, self.R, self.S, self.G, dtype, device),
            initial=GaussianInitialLaw.of(
                self.initial_mean, self.initial_covariance, dtype, device
            ),
            horizon=self.horizon,
            discount=self.discount,
            regularizer=Entropy(self.temperature) if self.temperature > 0 else None,
        )

    def chain(self, times: Numbers) -> EulerMaruyamaChain:
        """The Euler–Maruyama chain on these times: what simulation estimates without bias."""
        return EulerMaruyamaChain(self, np.asarray(times, dtype=np.float64))

    def skeleton(self, policy: AnyPolicy, times: Numbers) -> Skeleton:
        """Continuous feedback on these times, without any error of the grid."""
        return Skeleton(self, as_law(policy), np.asarray(times, dtype=np.float64))
