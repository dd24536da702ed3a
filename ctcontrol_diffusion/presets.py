"""The named configs."""

from dataclasses import replace

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import LQ, Cifar10, Config, Critic, Evaluation, Rollout, Update

_DIGITS = Config()
_CIFAR10 = Config(
    problem=Cifar10(),
    iterations=200,
    device="cuda",
    checkpoint_every=20,
    rollout=Rollout(steps=10, batch=128),
    # Steps of 32 × 32 images, by the memory they take; learning rates of full fine-tuning.
    update=Update(learning_rate=1e-5, minibatch=128, warmup=5),
    critic=Critic(learning_rate=3e-4, minibatch=128),
    evaluation=Evaluation(steps=(4, 10, 25, 50), images=1000),
)
_CIFAR10_T4 = replace(_CIFAR10, rollout=Rollout(steps=4, batch=320))

PRESETS: dict[str, Config] = {
    "digits": _DIGITS,
    "digits-ddpo": replace(_DIGITS, algorithm="ddpo"),
    "digits-long": replace(
        _DIGITS,
        iterations=100,
        rollout=replace(_DIGITS.rollout, batch=320),
        # Patience pays twice: smaller steps waste less KL on noise, and what is left of it is
        # little enough for advantages that look further ahead and trust the critic less.
        update=replace(_DIGITS.update, learning_rate=2e-4, advantage_decay=2.7, minibatch=1600),
    ),
    "cifar10-t10": _CIFAR10,
    "cifar10-t10-ddpo": replace(_CIFAR10, algorithm="ddpo"),
    "cifar10-t4": _CIFAR10_T4,
    "cifar10-t4-ddpo": replace(_CIFAR10_T4, algorithm="ddpo"),
    "lq-smoke": Config(
        problem=LQ(),
        iterations=30,
        rollout=Rollout(steps=40, batch=256, exploration=0.5),
        update=Update(learning_rate=3e-2, advantage="closed-form", minibatch=1024),
        critic=Critic(minibatch=1024, width=32),
    ),
}
"""name -> config; the first is the default."""


def preset(name: str) -> Config:
    """The config called `name`; raises `CtcontrolError` naming the closest for a typo."""
    if name not in PRESETS:
        import difflib

        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise CtcontrolError(f"unknown preset {name!r}; {hint}there are {', '.join(PRESETS)}")
    return PRESETS[name]
