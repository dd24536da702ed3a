"""Policy evaluation by solving linear equations: LSTD and the method of moments."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ctcontrol._along import residuals, values_along
from ctcontrol._checks import CtcontrolError, ShapeError, check_kind, check_nonnegative
from ctcontrol._estimate import Estimate
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.critics._linear_value import LinearValue, features_along
from ctcontrol.critics._test_functions import EligibilityTrace, ParameterGradient, TestFunction


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Parameters with their error bars.

    Attributes:
        theta: (size,), float64.
        covariance: (size, size) of `theta` over rollouts: the sandwich formula, whose paths are
            the independent samples.
        moments: (tests,), what is left of E Σ ξ dM at `theta`; 0 where there are as many tests
            as parameters.
        n: the number of paths.
    """

    theta: Tensor
    covariance: Tensor
    moments: Tensor
    n: int

    @property
    def estimates(self) -> list[Estimate]:
        """One a parameter."""
        spread = self.covariance.diagonal().clamp_min(0).sqrt()
        pairs = zip(self.theta.tolist(), spread.tolist(), strict=True)
        return [Estimate(mean, stderr, self.n) for mean, stderr in pairs]

    def along(self, direction: Tensor) -> Estimate:
        """direction·θ, e.g. of V at a point with direction = φ(t, x)."""
        d = direction.to(self.theta)
        return Estimate(float(d @ self.theta), float((d @ self.covariance @ d).sqrt()), self.n)

    @torch.no_grad()
    def install(self, value: LinearValue) -> None:
        """Give the value these parameters."""
        value.theta.copy_(self.theta)


@dataclass(frozen=True)
class GeneralizedMoments:
    """min over θ of m(θ)ᵀ W m(θ), m(θ) = E Σ_k ξ_k dM_k, dM_k = e^{−ρt_k} δ_k; in closed form.

    For a `LinearValue` m = b − Aθ with A = E Σ ξ_k e^{−ρt_k}(φ_k − e^{−ρΔ}φ_{k+1})ᵀ. As many test
    functions as parameters make m = 0 and W idle (that is LSTD). The generalized method of
    moments and the objectives that GTD descends (Jia and Zhou 2022, 2108.06655, §4).

    Attributes:
        tests: the test functions, side by side.
        weighting: W. "identity" (GTD), "projected" (E Σ ξξᵀΔ)⁻¹ (GTD2 and TDC: the projected
            Bellman error), "optimal" the inverse covariance of the moments, in two steps, which
            has the smallest variance.
    """

    tests: tuple[TestFunction, ...] = (ParameterGradient(),)
    weighting: Literal["identity", "projected", "optimal"] = "identity"

    def __post_init__(self) -> None:
        check_kind("tests", self.tests, tuple, "give at least (ParameterGradient(),)")
        if not self.tests:
            raise CtcontrolError("tests is empty; give at least (ParameterGradient(),)")
        if self.weighting not in ("identity", "projected", "optimal"):
            raise CtcontrolError(
                f"weighting must be identity, projected or optimal, got {self.weighting!r}"
            )

    @torch.no_grad()
    def solve(self, value: Value, trajectory: Trajectory) -> LinearFit:
        """θ from one rollout; whatever θ the value has makes no difference.

        Raises:
            CtcontrolError: not a `LinearValue`, fewer tests than features, a single path,
                features that the tests do not tell apart, or a weighting that must invert tests
                that repeat each other.
            ShapeError: a test function that is not (steps, batch, number).
        """
        phi = features_along(value, trajectory).double()
        assert isinstance(value, LinearValue)
        xi = torch.cat([_read(test, value, trajectory) for test in self.tests], -1).double()
        size, count, n = phi.shape[-1], xi.shape[-1], trajectory.batch
        if count < size or n < 2:
            raise CtcontrolError(
                f"{size} parameters need as many test functions and two paths at least, got "
                f"{count} and {n}; add test functions or paths"
            )
        weight = (-trajectory.discount * trajectory.grid.times[:-1]).exp().to(xi)[:, None, None]
        shrink = (-trajectory.discount * trajectory.lengths[..., None]).exp().double()
        change = phi[:-1] - shrink * phi[1:]
        A = torch.einsum("kbq,kbp->bqp", weight * xi, change)
        # δ is affine in θ: its value at the present θ, with that θ taken out.
        delta = residuals(values_along(value, trajectory), trajectory).double()
        delta = delta + change @ value.theta.double()
        b = torch.einsum("kbq,kb->bq", weight * xi, delta)

        theta, inverse = _solve(A.mean(0), b.mean(0), self._first_weight(xi, trajectory))
        if self.weighting == "optimal":
            weight = _inverse(torch.cov((b - A @ theta).mT).reshape(count, count))
            theta, inverse = _solve(A.mean(0), b.mean(0), weight)
        left = b - A @ theta
        spread = torch.cov(left.mT).reshape(count, count) / n
        return LinearFit(theta, inverse @ spread @ inverse.mT, left.mean(0), n)

    def _first_weight(self, xi: Tensor, trajectory: Trajectory) -> Tensor:
        if self.weighting != "projected":
            return torch.eye(xi.shape[-1], dtype=xi.dtype, device=xi.device)
        lengths = trajectory.lengths.double()[..., None]
        return _inverse(torch.einsum("kbq,kbr->qr", xi * lengths, xi) / trajectory.batch)


@dataclass(frozen=True)
class LeastSquaresTD:
    """LSTD: E Σ ξ_k dM_k = 0 solved for θ, the special case of `GeneralizedMoments` with ξ = φ.

    The fixed point of TD(0), or of TD(λ) with a decay, without step sizes (Bradtke and Barto
    1996; Boyan 2002), with λ per unit of time. Where the value of the policy is in the family
    every decay is right up to O(Δt); where it is not, the smaller the decay the nearer the fit
    is to the projection of that value.

    Attributes:
        decay: of the eligibility trace, ≥ 0 per unit of time; None is no trace, TD(0).
    """

    decay: float | None = None

    def __post_init__(self) -> None:
        if self.decay is not None:
            check_nonnegative("decay", self.decay)

    @property
    def test(self) -> TestFunction:
        """What the martingale is held against."""
        return ParameterGradient() if self.decay is None else EligibilityTrace(self.decay)

    def solve(self, value: Value, trajectory: Trajectory) -> LinearFit:
        """θ from one rollout; raises as `GeneralizedMoments.solve`."""
        return GeneralizedMoments((self.test,)).solve(value, trajectory)


def _read(test: TestFunction, value: Value, trajectory: Trajectory) -> Tensor:
    xi = test(value, trajectory)
    if xi.ndim != 3 or xi.shape[:2] != trajectory.rewards.shape:
        raise ShapeError(
            f"a test function must have the shape {tuple(trajectory.rewards.shape)} and a last "
            f"axis of functions, got {tuple(xi.shape)}; StateFunctions take (batch, number)"
        )
    return xi


def _inverse(spread: Tensor) -> Tensor:
    """Of a covariance of the tests."""
    sizes = torch.linalg.eigvalsh(spread)
    if not bool(sizes[0] > len(spread) * torch.finfo(spread.dtype).eps * sizes[-1]):
        raise CtcontrolError(
            "this weighting inverts the covariance of the tests, which is singular (eigenvalues "
            f"{float(sizes[0]):.3g} … {float(sizes[-1]):.3g}); drop tests that repeat others, add "
            'paths, or use weighting="identity"'
        )
    return torch.linalg.inv(spread)


def _solve(A: Tensor, b: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """The minimiser of (b − Aθ)ᵀW(b − Aθ), and the matrix that maps b to it."""
    normal = A.mT @ W @ A
    rounding = len(normal) * torch.finfo(A.dtype).eps
    stretch = torch.linalg.svdvals(normal)
    if not bool(stretch[-1] > rounding * stretch[0]):
        raise CtcontrolError(
            "the features cannot be told apart on these paths (singular values "
            f"{stretch[0]:.3g} … {stretch[-1]:.3g}); drop a feature, or let the paths start in "
            "more places"
        )
    inverse = torch.linalg.solve(normal, A.mT @ W)
    return inverse @ b, inverse
