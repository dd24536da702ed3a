"""`python -m ctcontrol_diffusion.evaluate RUN [--steps 10,25 …]`: what a run's model is worth.

A grid of samplers × step counts, before and after training, from the same noise. Exit status: 0
done, 2 bad input, 3 failure while evaluating, 130 stopped by Ctrl-C; the same command goes on.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcontrol_diffusion._console import command

PROGRAM = "python -m ctcontrol_diffusion.evaluate"


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the run."""

    checkpoint: str = "auto"
    """last | best (by the reward that evaluation.stop-on names, else by mean return) | number of
    iterations | base: the pretrained model alone | auto: best if the run stops on a reward, else
    last."""
    steps: str | None = None
    """Step counts between commas; those of the run if not given."""
    schedulers: str | None = None
    """Samplers between commas: sde, ode, or schedulers of diffusers (ddim, ddpm, dpm++2m,
    dpm++2m-sde, euler, euler-ancestral, heun, unipc, flow-euler, or a class); those of the run if
    not given."""
    images: int | None = None
    """Samples for every sampler and step count; as many as the run takes if not given."""
    prompts: str | None = None
    """A source of prompts: animals, activities, a file (.txt, .tsv, .csv, .json, .jsonl), or A*B.
    Prompts that training drew from and others are evaluated apart."""
    rewards: str | None = None
    """Held-out rewards between commas, named as problem.reward is; those of the run if not
    given."""
    features: str | None = None
    """Features for a Fréchet distance: inception or inception=FILE (an FID, with the extra fid), a
    file of CIFAR ResNet weights, or module:function; those of the run if not given."""
    real: str | None = None
    """Real images to compare with: an .npz file, or a folder of them; those of the run if not
    given."""
    seed: int = 20_000
    """Seed of the noise; the default is that of the run's own evaluation."""
    compare: bool = True
    """Evaluate the pretrained model too, from the same noise, and warn of drifting images."""
    out: Path | None = None
    """Folder for evaluation-*.json, .html and images; RUN/evaluations if not given."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    stopped = "stopped; what is finished is kept, and the same command goes on with the rest"
    return command(_command, words, stopped=stopped)


def _command(words: list[str]) -> int:
    from ctcontrol import CtcontrolError
    from ctcontrol_diffusion._cli import read_after

    folder, arguments = read_after(
        Arguments(),
        words,
        prog=f"{PROGRAM} RUN",
        description="Evaluate the model of a run. RUN, its folder, comes first.",
        question=f"which run? give its folder first: {PROGRAM} RUN",
    )
    run = Path(folder)
    for flag, value, least in (("--images", arguments.images, 3), ("--seed", arguments.seed, 0)):
        if value is not None and not least <= value < 2**62:
            raise CtcontrolError(f"{flag} must be a whole number >= {least}, got {value}")
    steps = _steps(arguments.steps)
    from ctcontrol_diffusion.run.evaluation import Request, evaluate_run

    request = Request(
        checkpoint=arguments.checkpoint,
        steps=steps,
        samplers=_samplers(arguments.schedulers),
        images=arguments.images,
        prompts=arguments.prompts,
        rewards=_rewards(arguments.rewards),
        features=arguments.features,
        real=arguments.real,
        seed=arguments.seed,
        compare=arguments.compare,
        command=" ".join([PROGRAM, *words]),
    )
    return evaluate_run(run, request, arguments.out or run / "evaluations")


def _parts(flag: str, text: str | None) -> tuple[str, ...] | None:
    from ctcontrol import CtcontrolError

    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(","))
    if "" in parts:
        raise CtcontrolError(f"{flag} {text!r} has an empty entry; give names between commas")
    return tuple(dict.fromkeys(parts))


def _steps(text: str | None) -> tuple[int, ...] | None:
    from ctcontrol import CtcontrolError

    parts = _parts("--steps", text)
    if parts is None:
        return None
    for part in parts:
        if not part.isdecimal() or not 1 <= int(part) < 2**31:
            raise CtcontrolError(f"--steps must be whole numbers >= 1 between commas, got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _samplers(text: str | None) -> tuple[str, ...] | None:
    parts = _parts("--schedulers", text)
    if parts is None:
        return None
    return tuple(part.upper() if part.lower() in ("sde", "ode") else part for part in parts)


def _rewards(text: str | None) -> tuple[str, ...] | None:
    """Names, whose options have commas too: `clip-score,model=PATH,brightness` is two."""
    parts = _parts("--rewards", text)
    if parts is None:
        return None
    names: list[str] = []
    for part in parts:
        if names and re.match(r"[A-Za-z_]+=", part):
            names[-1] += f",{part}"
        else:
            names.append(part)
    return tuple(names)


if __name__ == "__main__":
    sys.exit(main())
