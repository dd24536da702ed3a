"""One view of every denoising network: the score, in float32, at control time."""

from typing import Any

from torch import Tensor, nn

from ctcontrol import Context, CtcontrolError, State, Time, like
from ctcontrol_diffusion.schedule import NoiseSchedule


class EpsilonScore(nn.Module):
    """∇log p_s(x) = −ε(x, s)/σ_s of an ε-predicting, class-conditional diffusers UNet.

    Args:
        network: called as `network(x, time, class_labels=context).sample`.
        schedule: converts control time and knows σ.
    """

    def __init__(self, network: nn.Module, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule

    def forward(self, t: Time, x: State, context: Context) -> Tensor:
        labels: dict[str, Any] = {} if context is None else {"class_labels": context}
        epsilon = self.network(x, self.schedule.network_time(t), **labels).sample.float()
        return -epsilon / like(self.schedule.sigma(t), x)


def denoise(schedule: NoiseSchedule, t: Time, x: State, score: Tensor) -> State:
    """x̂₀ = (x + σ² score)/α, the posterior mean E[X_0 | X_s = x] (Tweedie)."""
    return (x + like(schedule.variance(t), x) * score) / like(schedule.alpha(t), x)


def train_conditioning(module: nn.Module) -> nn.Module:
    """Leave gradients on only where a diffusers UNet takes in its time and its class.

    These are the parameters with `_emb` in their names: the embeddings themselves and their
    projections into the residual blocks.

    Raises:
        CtcontrolError: the module has no such parameters.
    """
    chosen = [name for name, _ in module.named_parameters() if "_emb" in name]
    if not chosen:
        raise CtcontrolError(
            f"{type(module).__name__} has no embedding layers to train; train all its weights"
        )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in chosen)
    return module


def frozen(module: nn.Module) -> nn.Module:
    """The module in evaluation mode with gradients off."""
    return module.eval().requires_grad_(False)
