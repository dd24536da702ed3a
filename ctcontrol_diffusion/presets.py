"""The named configs."""

from dataclasses import replace

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import (
    LQ,
    Cifar10,
    Config,
    Critic,
    Evaluation,
    Rollout,
    StableDiffusion,
    Update,
)

# Few steps, of which an update uses a third: many images in little time.
_DIGITS = Config()
_WHOLE = Update(share=1.0, advantage_decay=5.6, credited=1.0, averaged=0.0)
_CIFAR10 = Config(
    problem=Cifar10(),
    iterations=200,
    device="cuda",
    checkpoint_every=20,
    rollout=Rollout(steps=10, batch=128),
    # Steps of 32 × 32 images, by the memory they take; learning rates of full fine-tuning.
    update=replace(_WHOLE, learning_rate=1e-5, minibatch=128, warmup=5),
    critic=Critic(learning_rate=3e-4, minibatch=128),
    evaluation=Evaluation(steps=(4, 10, 25, 50), images=1000, watch_every=5),
)
_CIFAR10_T4 = replace(_CIFAR10, rollout=Rollout(steps=4, batch=320))
_SD15 = Config(
    problem=StableDiffusion(reward="image-reward", prompts="animals*activities"),
    iterations=100,
    device="cuda",
    micro_batch=8,
    rollout=Rollout(steps=50, batch=64),
    # The ratio is the mean over the 16,384 numbers of a latent, and its clip and the learning rate
    # of factors of rank 4 are those that ddpo-pytorch's configs have for it.
    update=replace(_WHOLE, learning_rate=3e-4, log_ratio_scale=2**-14, clip=1e-4, minibatch=1600),
    # A head on what the rollout computed anyway; decoding and judging every step would cost more
    # than the rollout itself.
    critic=Critic(design="features", first="none", link="const", learning_rate=3e-4, minibatch=400),
    evaluation=Evaluation(steps=(10, 25, 50), images=64, grid=4, watch_every=5),
)
_SD15_AESTHETIC = replace(_SD15, problem=StableDiffusion(reward="aesthetic"))
_SD15_JPEG = replace(_SD15, problem=StableDiffusion(reward="jpeg-compressibility", kl_weight=0.1))

PRESETS: dict[str, Config] = {
    "digits": _DIGITS,
    "digits-ddpo": replace(_DIGITS, algorithm="ddpo"),
    "digits-long": replace(
        _DIGITS,
        # Steps fine enough that every sampler obeys, and most of them in an update.
        iterations=130,
        rollout=Rollout(steps=25, batch=320),
        update=replace(_DIGITS.update, share=0.8, minibatch=1280),
        critic=Critic(minibatch=800),
    ),
    "cifar10-t10": _CIFAR10,
    "cifar10-t10-ddpo": replace(_CIFAR10, algorithm="ddpo"),
    "cifar10-t4": _CIFAR10_T4,
    "cifar10-t4-ddpo": replace(_CIFAR10_T4, algorithm="ddpo"),
    "sd15-imagereward": _SD15,
    "sd15-imagereward-ddpo": replace(_SD15, algorithm="ddpo"),
    "sd15-aesthetic": _SD15_AESTHETIC,
    "sd15-aesthetic-ddpo": replace(_SD15_AESTHETIC, algorithm="ddpo"),
    "sd15-jpeg": _SD15_JPEG,
    "sd15-jpeg-ddpo": replace(_SD15_JPEG, algorithm="ddpo"),
    "lq-smoke": Config(
        problem=LQ(),
        iterations=30,
        rollout=Rollout(steps=40, batch=256, exploration=0.5),
        update=replace(_WHOLE, learning_rate=3e-2, advantage="closed-form", minibatch=1024),
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
