"""Evaluation through the schedulers of diffusers: their steps, and their loop over timesteps.

Training uses the solvers of this package, whose likelihoods are known. What users sample with
afterwards is a scheduler of diffusers, so that is what a trained model is judged by.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ctcontrol import Context, CtcontrolError, Scalar, State, check_count

SCHEDULERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpm++2m": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
    "dpm++2m-sde": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 2},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
}
"""name -> (class of diffusers, what is set apart from the original config)."""

SPACING = "trailing"
"""Timesteps n − 1, n − 1 − n/steps, …: all schedulers start from pure noise, as training does.

Left alone, some start at 999 and others at 900 (10 steps), which no comparison survives.
"""


class Asked(Protocol):
    """What can be asked for the bare output of a network, as `NetworkScore` can."""

    def output(self, time: Scalar, x: State, context: Context) -> Tensor:
        """The prediction at the network's own time, (batch,)."""
        ...


def scheduler_named(name: str, original: Any) -> Any:
    """The scheduler called `name` for the network that the `original` scheduler belongs to.

    Made from the config of the original alone: every setting that both know is taken over as it
    is, whether it was written down or a default. (`from_config` puts the defaults of the *new*
    class for what was a default in the old one, which gives Heun other β than DDPM; and from a
    config of a scheduler that was itself swapped in, what that one had added leaks.) Only the
    spacing of timesteps is the same for all, `SPACING`.

    Args:
        name: one of `SCHEDULERS`, or the name of a class of diffusers.
        original: the scheduler that came with the model.

    Raises:
        CtcontrolError: the name is unknown; diffusers does not call the class compatible; it
            cannot be made to have the original's noise levels or prediction; a trial gives NaN.
    """
    import diffusers

    found, changes = SCHEDULERS.get(name, (name, {}))
    kind = getattr(diffusers, found, None)
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.SchedulerMixin)):
        raise CtcontrolError(
            f"unknown scheduler {name!r}; there are {', '.join(SCHEDULERS)}, and the names of the "
            "schedulers of diffusers"
        )
    theirs = type(original).__name__
    if kind is not type(original) and kind not in original.compatibles:
        raise CtcontrolError(
            f"{found} is not compatible with the model's {theirs}: they do not share their noise "
            f"levels and times; take one of {_compatible(original)}"
        )
    wanted = {**dict(original.config), "timestep_spacing": SPACING, **changes}
    known = inspect.signature(kind.__init__).parameters
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # diffusers on NumPy 2
            made: Any = kind(**{key: value for key, value in wanted.items() if key in known})
            _check_levels(made, original)
            _check_prediction(made, original)
            trial = torch.ones(1, 1, 2, 2)
            made.set_timesteps(3)
            reached = _walk(made, lambda time, x: torch.zeros_like(x), trial, None)
    except (ValueError, NotImplementedError, ImportError) as error:
        raise CtcontrolError(
            f"{found} cannot take over the config of the model's {theirs}: "
            f"{next(iter(str(error).splitlines()), type(error).__name__)}; take another scheduler"
        ) from error
    if not bool(reached.isfinite().all()):
        raise CtcontrolError(
            f"{found} gives NaN with the noise levels of the model's {theirs} (does it end in pure "
            "noise?); take another scheduler"
        )
    return made


@torch.no_grad()
def sample_with(
    scheduler: Any,
    score: Asked,
    noise: State,
    context: Context,
    steps: int,
    generator: torch.Generator,
) -> State:
    """X_0 from `noise` ~ N(0, I), by `steps` steps of a scheduler; (batch, *state) like `noise`.

    A scheduler of order two (Heun) asks the network 2·steps − 1 times.

    Raises:
        CtcontrolError: a number of steps that the scheduler cannot do.
    """
    set_steps(scheduler, steps, noise.device)

    def asked(time: Tensor, x: Tensor) -> Tensor:
        return score.output(time.to(x).expand(len(x)), x, context)

    return _walk(scheduler, asked, noise, generator)


def set_steps(scheduler: Any, steps: int, device: torch.device) -> None:
    """Make a scheduler ready for so many steps; raises `CtcontrolError` if it cannot do them."""
    check_count("steps", steps)
    most = scheduler.config.get("num_train_timesteps", steps)
    try:
        if steps > most:  # some schedulers would give NaN instead
            raise ValueError(f"the model has {most} noise levels; take fewer steps")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            scheduler.set_timesteps(steps, device=device)
    except ValueError as error:
        raise CtcontrolError(
            f"{type(scheduler).__name__} cannot do {steps} steps: {str(error).splitlines()[0]}"
        ) from error


def _walk(
    scheduler: Any,
    output: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """The loop of every pipeline of diffusers."""
    random = "generator" in inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"generator": generator} if random else {}
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)  # flow matching has none
    for time in scheduler.timesteps:
        scale = getattr(scheduler, "scale_model_input", None)
        predicted = output(time, x if scale is None else scale(x, time))
        x = scheduler.step(predicted, time, x, return_dict=False, **extra)[0].to(noise.dtype)
    return x


def _check_levels(made: Any, original: Any) -> None:
    """Equal α at every timestep; at the last one, pure noise may be a small number instead."""
    theirs, ours = (getattr(s, "alphas_cumprod", None) for s in (original, made))
    if theirs is None and ours is None:
        return
    if theirs is None or ours is None or len(theirs) != len(ours):
        raise ValueError("its time is not that of the model's network")
    if float((theirs - ours).abs().max()) > 1e-6:
        raise ValueError("its noise levels differ (it lacks one of the settings)")


def _check_prediction(made: Any, original: Any) -> None:
    before, after = (s.config.get("prediction_type") for s in (original, made))
    if before != after:
        raise ValueError(f"the network predicts {before}, which it does not know")


def _compatible(original: Any) -> str:
    names = {kind.__name__ for kind in [type(original), *original.compatibles]}
    return ", ".join(name for name, (kind, _) in SCHEDULERS.items() if kind in names)
