"""The ranges of a config, checked before anything is built."""

import math
import sys
from pathlib import Path
from typing import NoReturn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import LQ, Cifar10, Config, Digits, StableDiffusion

LARGEST_SEED = 2**62


def check_config(config: Config) -> Config:
    """`config` itself, if every number is in its range.

    Raises:
        CtcontrolError: names the first flag whose value is not, the value and the range.
    """
    _check_problem(config)
    for flag, value in {
        "--iterations": config.iterations,
        "--threads": config.threads,
        "--checkpoint-every": config.checkpoint_every,
        "--rollout.steps": config.rollout.steps,
        "--rollout.batch": config.rollout.batch,
        "--update.epochs": config.update.epochs,
        "--update.minibatch": config.update.minibatch,
        "--critic.epochs": config.critic.epochs,
        "--critic.minibatch": config.critic.minibatch,
        "--critic.width": config.critic.width,
        "--evaluation.grid": config.evaluation.grid,
    }.items():
        _at_least(flag, value, 1)
    if config.micro_batch is not None:
        _at_least("--micro-batch", config.micro_batch, 1)
    _at_least("--seed", config.seed, 0)
    if config.seed > LARGEST_SEED:
        _wrong("--seed", config.seed, f"at most {LARGEST_SEED}")
    _at_least("--update.warmup", config.update.warmup, 0)
    _at_least("--critic.policy-waits", config.critic.policy_waits, 0)
    _at_least("--evaluation.images", config.evaluation.images, 3)
    if not config.evaluation.steps:
        _wrong("--evaluation.steps", "nothing", "one or more whole numbers")
    for steps in config.evaluation.steps:
        _at_least("--evaluation.steps", steps, 1)
    _check_watching(config)
    for flag, value in {
        "--update.learning-rate": config.update.learning_rate,
        "--update.clip": config.update.clip,
        "--update.clip-norm": config.update.clip_norm,
        "--update.log-ratio-scale": config.update.log_ratio_scale,
        "--critic.learning-rate": config.critic.learning_rate,
    }.items():
        _positive(flag, value)
    decay = config.update.advantage_decay
    if not (math.isfinite(decay) and decay >= 0):
        _wrong("--update.advantage-decay", decay, "a finite number >= 0")
    for flag, value in {
        "--update.share": config.update.share,
        "--update.credited": config.update.credited,
    }.items():
        if not 0 < value <= 1:
            _wrong(flag, value, "in (0, 1]")
    if not 0 <= config.update.averaged < 1:
        _wrong("--update.averaged", config.update.averaged, "in [0, 1)")
    _check_exploration(config)
    _check_critic(config)
    _check_minibatches(config)
    return config


def _check_problem(config: Config) -> None:
    match config.problem:
        case Digits() as problem:
            if not (math.isfinite(problem.kl_weight) and problem.kl_weight >= 0):
                _wrong("--problem.kl-weight", problem.kl_weight, "a finite number >= 0")
            if not 0 < problem.eta <= 1:
                _wrong("--problem.eta", problem.eta, "in (0, 1]")
            if not 0 < problem.floor < 1:
                _wrong("--problem.floor", problem.floor, "in (0, 1)")
            for digit in problem.held_out:
                if digit not in map(str, range(10)):
                    _wrong("--problem.held-out", digit, "digits, 0 … 9")
            if len(set(problem.held_out)) == 10:
                _wrong("--problem.held-out", "all ten digits", "at most nine of them")
            if problem.denoiser is not None and not Path(problem.denoiser).is_file():
                raise CtcontrolError(
                    f"--problem.denoiser: there is no file {problem.denoiser}; leave the flag out "
                    "for the weights that come with the package"
                )
        case Cifar10() as problem:
            _check_cifar10(problem)
        case StableDiffusion() as problem:
            _check_stable_diffusion(problem)
        case LQ() as problem:
            if config.update.standardize == "per-prompt":
                _wrong(
                    "--update.standardize", "per-prompt", "auto or none where nothing is prompted"
                )
            _positive("--problem.volatility", problem.volatility)
            _positive("--problem.control-cost", problem.control_cost)
            _positive("--problem.horizon", problem.horizon)


def _check_cifar10(problem: Cifar10) -> None:
    _check_pretrained(problem)
    _positive("--problem.data-variance", problem.data_variance)


def _check_stable_diffusion(problem: StableDiffusion) -> None:
    _check_pretrained(problem)
    _positive("--problem.data-variance", problem.data_variance)
    if not 0 <= problem.held_out < 1:
        _wrong("--problem.held-out", problem.held_out, "in [0, 1)")
    _at_least("--problem.images-per-prompt", problem.images_per_prompt, 1)
    if not (math.isfinite(problem.guidance) and problem.guidance >= 1):
        _wrong("--problem.guidance", problem.guidance, "a finite number >= 1; 1 is no guidance")
    if problem.resolution is not None:
        _at_least("--problem.resolution", problem.resolution, 8)
    if problem.lora_alpha is not None:
        _positive("--problem.lora-alpha", problem.lora_alpha)


def _check_pretrained(problem: Cifar10 | StableDiffusion) -> None:
    if not (math.isfinite(problem.kl_weight) and problem.kl_weight >= 0):
        _wrong("--problem.kl-weight", problem.kl_weight, "a finite number >= 0")
    if not 0 < problem.eta <= 1:
        _wrong("--problem.eta", problem.eta, "in (0, 1]")
    if not 0 < problem.floor < 1:
        _wrong("--problem.floor", problem.floor, "in (0, 1)")
    _at_least("--problem.lora-rank", problem.lora_rank, 1)
    folder = Path(problem.model).expanduser()
    named = folder.exists() or problem.model.startswith((".", "/", "~")) or "/" not in problem.model
    if named and not (folder / "model_index.json").is_file():
        raise CtcontrolError(
            f"--problem.model: there is no diffusers pipeline (model_index.json) in {folder}; give "
            "the folder that save_pretrained wrote, or the id of one on the hub, OWNER/NAME"
        )
    for flag, path in (("--problem.real", problem.real), ("--problem.features", problem.features)):
        if path is not None and ":" not in path and not Path(path).exists():
            raise CtcontrolError(f"{flag}: there is no {path}; give the path of a file")


def _check_watching(config: Config) -> None:
    evaluation = config.evaluation
    _at_least("--evaluation.watch-every", evaluation.watch_every, 0)
    _at_least("--evaluation.watch-images", evaluation.watch_images, 3)
    _at_least("--evaluation.patience", evaluation.patience, 1)
    if evaluation.rewards and isinstance(config.problem, LQ):
        raise CtcontrolError(
            f"--evaluation.rewards {evaluation.rewards[0]}: rewards judge images, and a regulator "
            "has none; leave the flag out"
        )
    if evaluation.stop_on is None:
        return
    if evaluation.stop_on not in evaluation.rewards:
        raise CtcontrolError(
            f"--evaluation.stop-on {evaluation.stop_on} is not among the held-out rewards "
            f"({', '.join(evaluation.rewards) or 'there are none'}); give it to "
            "--evaluation.rewards too"
        )
    if evaluation.watch_every == 0:
        _wrong("--evaluation.watch-every", 0, "at least 1 with --evaluation.stop-on")


def _check_exploration(config: Config) -> None:
    std = config.rollout.exploration
    if std == "absorbed":
        return
    if config.algorithm != "pathwise":
        _positive("--rollout.exploration", std)
    elif not (math.isfinite(std) and std >= 0):
        _wrong("--rollout.exploration", std, "a finite number >= 0")


def _check_critic(config: Config) -> None:
    critic = config.critic
    if not 0 < critic.tower_share <= 1:
        _wrong("--critic.tower-share", critic.tower_share, "in (0, 1]")
    if isinstance(config.problem, LQ):
        for flag, value, usual in (
            ("--critic.design", critic.design, "auto"),
            ("--critic.first", critic.first, "denoised"),
            ("--critic.second", critic.second, "original"),
        ):
            if value != usual:
                raise CtcontrolError(
                    f"{flag} {value} is for image models, and the states of LQ are no images; "
                    f"leave the flag out"
                )
    if critic.first == "none" and critic.link != "const":
        raise CtcontrolError(
            f"--critic.first none leaves all of the value to the learned term, which --critic.link "
            f"{critic.link} takes away towards the end; give --critic.link const with it"
        )
    if critic.design == "features" and critic.second == "denoised":
        raise CtcontrolError(
            "--critic.second denoised says nothing to --critic.design features, which looks at "
            "what the policy's network computes; leave it out"
        )


def _check_minibatches(config: Config) -> None:
    rows = config.rollout.batch * config.rollout.steps
    share = max(1, round(config.update.share * rows))
    used = f", --update.share {config.update.share:g} of them" if share < rows else ""
    limits = {"--update.minibatch": (config.update.minibatch, share, used)}
    if config.algorithm != "ddpo":
        limits["--critic.minibatch"] = (config.critic.minibatch, rows, "")
    for flag, (size, most, part) in limits.items():
        if size > most:
            raise CtcontrolError(
                f"{flag} {size} is more than the {most} steps that an iteration has for it "
                f"({config.rollout.batch} trajectories of {config.rollout.steps} steps{part}); "
                f"give {flag} {most} or less, or a larger --rollout.batch"
            )


def _at_least(flag: str, value: int, least: int) -> None:
    if value < least or value > sys.maxsize:
        _wrong(flag, value, f"a whole number >= {least}")


def _positive(flag: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        _wrong(flag, value, "a finite number > 0")


def _wrong(flag: str, value: object, wanted: str) -> NoReturn:
    raise CtcontrolError(f"{flag} must be {wanted}, got {value}")
