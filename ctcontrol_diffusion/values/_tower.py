"""Networks that look at what a state decodes to."""

from collections.abc import Callable

from torch import Tensor, nn

from ctcontrol import Action, Context, InformedResidual, Scalar, State, Time
from ctcontrol_diffusion.values._denoised import Denoised
from ctcontrol_diffusion.values._guess import Judge

Network = Callable[[Tensor, Tensor, Context], Tensor]
"""(t, images or states, context) -> (batch,)."""


class RewardTower(nn.Module):
    """F(x, context): a copy of the reward itself that learns, the same at all times.

    With the link cos, sin and a denoised guess this is the value network of Score as Action
    (ICML 2025, eq. 20): frozen and trained tower, on the denoised and on the noisy image.

    Args:
        judge: the copy, of states as if they were clean, (x, context) -> (batch,).
        learned: the networks inside it.
    """

    def __init__(self, judge: Judge, learned: nn.Module) -> None:
        super().__init__()
        self._judge = (judge,)  # in a tuple: only what it is made of is a submodule
        self.learned = learned

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        return self._judge[0](x, context)


class OnImages(nn.Module):
    """F(t, decode(x), context): a network that sees the image in place of the state.

    Args:
        network: of images.
        decode: (states as if they were clean, context) -> images in [0, 1].
    """

    def __init__(self, network: nn.Module, decode: Callable[[Tensor, Context], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.decode = decode

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        return self.network(t, 2 * self.decode(x, context) - 1, context)


class OnDenoised(InformedResidual):
    """F(t, x̂₀(t, x), context): a residual that sees the denoised state in place of the state.

    Args:
        residual: of states.
        denoised: makes x̂₀; of the mean action, where that is known, without another evaluation.
    """

    def __init__(self, residual: nn.Module, denoised: Denoised) -> None:
        super().__init__()
        self.residual = residual
        self.denoised = denoised

    def forward(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        notes: Tensor | None = None,
    ) -> Scalar:
        return self.residual(t, self.denoised(t, x, context, mean), context)
