"""One view of every denoising network: the score, in float32, at control time."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ctcontrol import Context, CtcontrolError, NotingMean, Scalar, State, Time, like
from ctcontrol_diffusion.ear import Ear
from ctcontrol_diffusion.schedule import NoiseSchedule, Schedule

Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]
"""What a network predicts, in the words of diffusers: the noise ε, the velocity v = αε − σX_0 of
a variance-preserving path, the image X_0, or the velocity u = ε − X_0 of flow matching."""


def _of_epsilon(alpha: Tensor, sigma: Tensor, x: Tensor, output: Tensor) -> Tensor:
    return -output / sigma


def _of_v(alpha: Tensor, sigma: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """ε = σx + αv, so that −ε/σ = −x − (α/σ)v."""
    return -x - alpha / sigma * output


def _of_sample(alpha: Tensor, sigma: Tensor, x: Tensor, output: Tensor) -> Tensor:
    return (alpha * output - x) / sigma**2


def _of_flow(alpha: Tensor, sigma: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """ε = x + αu where α + σ = 1."""
    return -(x + alpha * output) / sigma


_SCORES: dict[Prediction, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": _of_epsilon,
    "v_prediction": _of_v,
    "sample": _of_sample,
    "flow_prediction": _of_flow,
}


def prediction_of(scheduler: Any) -> Prediction:
    """What the network predicts that a diffusers scheduler was made for.

    It is written in the config of the scheduler, and nowhere in that of the network: a scheduler
    made without it says epsilon, whatever the network does.

    Raises:
        CtcontrolError: a kind of prediction that is not known here.
    """
    if "FlowMatch" in type(scheduler).__name__:
        return "flow_prediction"
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in get_args(Prediction):
        raise CtcontrolError(
            f"the {type(scheduler).__name__} has prediction_type {kind!r}; a score can be made of "
            f"{', '.join(get_args(Prediction))}"
        )
    return kind


class NetworkScore(NotingMean):
    """∇log p_s(x) = −E[ε | X_s = x]/σ_s of a diffusers UNet, whatever it predicts.

    With o the output of the network, the score is −o/σ (epsilon), −x − (α/σ)o (v_prediction),
    (αo − x)/σ² (sample), −(x + αo)/σ (flow_prediction). The network is asked at
    `Schedule.timestep`. If it has twice the channels, the second half (a learned variance) is
    dropped.

    Args:
        network: called as `network(x, time, class_labels=context).sample`.
        schedule: converts control time and knows α and σ.
        prediction: what the network predicts.
        conditional: whether it takes the context as its class; if not, the context is not used.
        compute: the precision of the network, by autocast; its own if None. What goes in and comes
            out is float32 (float64 for such networks), and so are trajectories.
        at_once: images through the network together; all if None.
        switch: entered around the network, for example to turn adapters off.

    Raises:
        CtcontrolError: predictions that do not go with the schedule.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: Prediction = "epsilon",
        *,
        conditional: bool = True,
        compute: torch.dtype | None = None,
        at_once: int | None = None,
        switch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__()
        preserving = isinstance(schedule, NoiseSchedule)
        if prediction == ("flow_prediction" if preserving else "v_prediction"):
            raise CtcontrolError(
                f"{prediction} does not go with a {type(schedule).__name__}; give the scheduler "
                "that the network was trained with"
            )
        self.network = network
        self.schedule = schedule
        self.prediction: Prediction = prediction
        self.conditional = conditional
        self.compute = compute
        self.at_once = at_once
        self.switch = switch
        self._ear: Ear | None = None

    def forward(self, t: Time, x: State, context: Context) -> Tensor:
        output = self.output(self._time(t), x, context)
        alpha, sigma = (like(f(t), x) for f in (self.schedule.alpha, self.schedule.sigma))
        return _SCORES[self.prediction](alpha, sigma, x, output)

    def take_notes(self) -> None:
        """From now on `noted` tells what the middle block of the UNet computes, pooled.

        Raises:
            CtcontrolError: the network has no middle block.
        """
        block = getattr(self.network, "mid_block", None)
        if not isinstance(block, nn.Module):
            raise CtcontrolError(
                f"{type(self.network).__name__} has no middle block whose features could be read; "
                "give --critic.design convolution"
            )
        self._ear = self._ear or Ear(block)

    def noted(self, t: Time, x: State, context: Context) -> tuple[Tensor, Tensor | None]:
        if self._ear is None:
            return self(t, x, context), None
        with self._ear.listening() as parts:
            score = self(t, x, context)
            return score, torch.cat(parts)

    def output(self, time: Scalar, x: State, context: Context) -> Tensor:
        """What the network predicts at its own `time`."""
        size = self.at_once or len(x)
        with self.switch():
            if size >= len(x):
                return self._heard(time, x, context)
            cut = [slice(start, start + size) for start in range(0, len(x), size)]
            labels = [context[i] if isinstance(context, Tensor) else context for i in cut]
            parts = zip(cut, labels, strict=True)
            return torch.cat([self._heard(time[i], x[i], label) for i, label in parts])

    def _heard(self, time: Scalar, x: State, context: Context) -> Tensor:
        output = self.predicted(time, x, context)
        if self._ear is not None:
            self._ear.keep(len(x))
        return output

    def predicted(self, time: Scalar, x: State, context: Context) -> Tensor:
        """The same, of so many images as go through the network together."""
        labelled = self.conditional and context is not None
        return self.asked(time, x, {"class_labels": context} if labelled else {})

    def asked(self, time: Scalar, x: State, words: Mapping[str, Any]) -> Tensor:
        """One call of the network, in its precision."""
        with torch.autocast(x.device.type, self.compute, enabled=self.compute is not None):
            output = self.network(x, time, **words).sample
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        return output[:, : x.shape[1]] if output.shape[1] == 2 * x.shape[1] else output

    def _time(self, t: Time) -> Scalar:
        return self.schedule.timestep(t)


class EpsilonScore(NetworkScore):
    """∇log p_s(x) = −ε(x, s)/σ_s of an ε-predicting, class-conditional diffusers UNet.

    The network is asked at the continuous time, which rounding may leave a little beside a whole
    number.

    Args:
        network: called as `network(x, time, class_labels=context).sample`.
        schedule: converts control time and knows σ.
    """

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__(network, schedule)

    def _time(self, t: Time) -> Scalar:
        return self.schedule.network_time(t)


def denoise(schedule: Schedule, t: Time, x: State, score: Tensor) -> State:
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
