"""Linear-Gaussian policies as modules, for learners and for the simulator."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ctcontrol._checks import CtcontrolError, check_fits
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Feedback, Policy
from ctcontrol._tensor import linear
from ctcontrol._typing import Context, State, Time
from ctcontrol.exact.lq._arrays import Numbers, as_array
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._schedule import Constant, Piecewise, Schedule


class LinearGaussianPolicy(Policy):
    """u ~ N(−K x + k, diag(std²)) with trainable K and k, constant or piecewise constant in time.

    Args:
        gain: K, (m, d), or (pieces, m, d) with `times`.
        offset: k, (m,) or (pieces, m); 0 by default.
        std: exploration ≥ 0, a number or one per action coordinate (m,).
        times: (pieces + 1,), increasing; piece j holds on [times[j], times[j+1]). None for a
            policy that is constant in time.
        learn_std: make log std a parameter too; needs std > 0.
        dtype, device: of the parameters.

    Raises:
        CtcontrolError: shapes that do not fit, a negative std, or `learn_std` with std = 0.
    """

    def __init__(
        self,
        gain: Numbers,
        offset: Numbers | None = None,
        *,
        std: Numbers = 0.0,
        times: Numbers | None = None,
        learn_std: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        K = as_array("gain", gain)
        axes = 2 if times is None else 3
        if K.ndim != axes:
            raise CtcontrolError(
                f"gain must have {axes} axes, (pieces, actions, states) with times and "
                f"(actions, states) without, got shape {K.shape}"
            )
        m, lead = K.shape[-2], K.shape[:-2]
        k = np.zeros((*lead, m)) if offset is None else as_array("offset", offset, (*lead, m))
        spread = np.broadcast_to(as_array("std", std), (m,)) if np.ndim(std) == 0 else std
        sigma = as_array("std", spread, (m,))
        if (sigma < 0).any() or (learn_std and (sigma == 0).any()):
            raise CtcontrolError(
                f"std must be {'> 0 to be learned' if learn_std else '>= 0'}, got {sigma.tolist()}"
            )
        nodes = np.array([0.0, 1.0]) if times is None else as_array("times", times)
        Piecewise(nodes, K if times is not None else K[None])  # the door check of both
        self.constant = times is None
        self.gain = nn.Parameter(torch.tensor(K, dtype=dtype, device=device))
        self.offset = nn.Parameter(torch.tensor(k, dtype=dtype, device=device))
        width = torch.tensor(sigma, dtype=dtype, device=device)
        self.log_std: Tensor = nn.Parameter(width.log()) if learn_std else nn.Buffer(width.log())
        self.times = tuple(nodes.tolist())  # no buffer: a change of dtype must not round them

    @property
    def std(self) -> Tensor:
        """The exploration, (m,)."""
        return self.log_std.exp()

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        """The law of the action at rows (t, x)."""
        check_fits("the state", x, self.gain.shape[-1], self.gain.dtype)
        if self.constant:
            mean = self.offset - linear(self.gain, x)
        else:
            # Compared in the dtype of t, so that a node is on the same side in every dtype.
            jumps = torch.tensor(self.times[1:-1], dtype=t.dtype, device=t.device)
            piece = torch.searchsorted(jumps, t.contiguous(), right=True)
            mean = self.offset[piece] - torch.einsum("bmd,bd->bm", self.gain[piece], x)
        return Gaussian(mean, self.std.expand_as(mean))

    def stacked(self, t: Time, x: State) -> Gaussian | None:
        if not self.constant:
            return None
        check_fits("the state", x[0], self.gain.shape[-1], self.gain.dtype)
        mean = torch.baddbmm(self.offset[:, None], x, self.gain.mT, alpha=-1)
        return Gaussian(mean, self.std[:, None].expand_as(mean))

    def feedback(self, times: Sequence[float]) -> list[Feedback] | None:
        if bool((self.log_std > -torch.inf).any()):
            return None
        if self.constant:
            return [Feedback(self.gain, self.offset)] * len(times)
        pieces = [Feedback(*piece) for piece in zip(self.gain, self.offset, strict=True)]
        jumps = self.times[1:-1]
        return [pieces[bisect_right(jumps, t)] for t in times]

    def law(self) -> LinearGaussianLaw:
        """A snapshot as plain arrays, for the exact formulas."""
        gain, offset = (p.detach().double().cpu().numpy() for p in (self.gain, self.offset))
        spread = np.diag(self.std.detach().double().cpu().numpy() ** 2)
        if self.constant:
            return LinearGaussianLaw(gain, offset, spread)
        nodes = np.array(self.times)
        return LinearGaussianLaw(Piecewise(nodes, gain), Piecewise(nodes, offset), spread)


class FixedLinearGaussianPolicy(Policy):
    """The policy of a `LinearGaussianLaw`, such as the exact optimum; nothing to train.

    Raises:
        CtcontrolError: at evaluation, a covariance that is not diagonal: actions of simulations
            have independent coordinates.
    """

    def __init__(self, law: LinearGaussianLaw) -> None:
        super().__init__()
        self._law = law

    def law(self) -> LinearGaussianLaw:
        """The arrays it was made from."""
        return self._law

    def feedback(self, times: Sequence[float]) -> list[Feedback] | None:
        gain, offset, covariance = self._law.schedules
        if any(covariance(t).any() for t in times):
            return None
        one = isinstance(gain, Constant) and isinstance(offset, Constant)
        found = [
            Feedback(torch.tensor(gain(t)), torch.tensor(offset(t)))
            for t in (times[:1] if one else times)
        ]
        return found * len(times) if one else found

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        """The law of the action at rows (t, x)."""
        times, row = np.unique(t.detach().double().cpu().numpy(), return_inverse=True)
        index = torch.as_tensor(row, device=x.device)

        def table(schedule: Schedule) -> Tensor:
            if isinstance(schedule, Constant):
                return (
                    torch.as_tensor(np.array(schedule.value))
                    .to(x)[None]
                    .expand(len(times), *schedule.value.shape)
                )
            return torch.as_tensor(np.array([schedule(s) for s in times.tolist()])).to(x)

        gain, offset, covariance = (table(s)[index] for s in self._law.schedules)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        if bool((covariance - torch.diag_embed(variance)).any()):
            raise CtcontrolError(
                "the policy's covariance is not diagonal, but simulated actions have "
                "independent coordinates; rotate the actions so that the covariance is diagonal"
            )
        return Gaussian(offset - torch.einsum("bmd,bd->bm", gain, x), variance.sqrt())
