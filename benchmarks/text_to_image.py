"""`python -m benchmarks.text_to_image`: what an iteration on a Stable Diffusion costs.

Weights are random, which no time depends on, so that nothing is downloaded.

Exit status: 0 measured, 2 bad input, 3 failure, 130 Ctrl-C.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_models import Size, save_random
from ctcontrol import simulate
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion._cli import read
from ctcontrol_diffusion._console import command, console
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.presets import preset

PROGRAM = "python -m benchmarks.text_to_image"
Record = dict[str, Any]


@dataclass(frozen=True)
class Arguments:
    """What the command takes."""

    size: Size = "sd15"
    """sd15: the networks of Stable Diffusion 1.5. tiny: a thousandth of them, to try this out."""
    device: str = "cuda"
    """cpu, cuda or cuda:N."""
    batch: tuple[int, ...] = (16, 64)
    """Images an iteration."""
    micro_batch: int = 8
    """Images through the network at once."""
    steps: int = 50
    """Steps of the sampler."""
    precision: tuple[Literal["bfloat16", "float32"], ...] = ("bfloat16",)
    """What networks compute in."""
    methods: tuple[str, ...] = ("ddpo", "convolution", "features", "tower")
    """ddpo, and designs of the value network for ctrl."""
    rounds: int = 3
    """Iterations timed, after one that is not; the median counts."""
    json: Path | None = None
    """File for the numbers."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped")


def _command(words: Sequence[str]) -> int:
    arguments = read(Arguments(), words, prog=PROGRAM, description=__doc__ or "")
    device = torch.device(arguments.device)
    peak = _matmul_rate(device)
    machine = _name(device)
    console().print(f"{machine}: {peak / 1e12:.3g} bfloat16 TFLOP/s in products of matrices")
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        save_random(Path(folder), arguments.size)
        for config in _configs(arguments, folder):
            made = build(check_config(config))
            record = _measured(made, arguments.rounds, peak)
            records.append(record)
            console().print(_line(record), markup=False, highlight=False, soft_wrap=True)
            if arguments.json is not None:
                content = {"device": machine, "bfloat16_flops": peak, "records": records}
                arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


def _configs(arguments: Arguments, model: str) -> Iterator[c.Config]:
    usual = preset("sd15-jpeg")
    for precision in arguments.precision:
        for batch in arguments.batch:
            for method in arguments.methods:
                rows = batch * arguments.steps
                design: Any = "auto" if method == "ddpo" else method
                yield replace(
                    usual,
                    problem=c.StableDiffusion(
                        model=model, reward="brightness", precision=precision, kl_weight=0.0
                    ),
                    algorithm="ddpo" if method == "ddpo" else "ctrl",
                    device=arguments.device,
                    micro_batch=arguments.micro_batch,
                    rollout=c.Rollout(steps=arguments.steps, batch=batch),
                    update=replace(usual.update, minibatch=rows // 2, warmup=0),
                    critic=replace(
                        usual.critic,
                        design=design,
                        first="denoised" if method == "tower" else "none",
                        link="cos-sin" if method == "tower" else "const",
                        minibatch=rows // 2,
                        epochs=1,
                        policy_waits=0,
                    ),
                )


def _measured(made: Experiment, rounds: int, peak: float) -> Record:
    """Seconds of a rollout and of an iteration, images/s, memory, share of the card's rate."""
    config, device = made.config, made.generator.device
    iterations = made.iterations()
    next(iterations)
    _reset(device)
    whole = [_seconds(lambda: next(iterations), device) for _ in range(rounds)]
    gigabytes = _gigabytes(device)
    rollout = [_seconds(lambda: _rollout(made), device) for _ in range(rounds)]
    seconds, sampling = statistics.median(whole), statistics.median(rollout)
    batch = config.rollout.batch
    return {
        "method": "ddpo" if config.algorithm == "ddpo" else config.critic.design,
        "precision": getattr(config.problem, "precision", None),
        "batch": batch,
        "micro_batch": config.micro_batch,
        "steps": config.rollout.steps,
        "rollout_images_per_second": batch / sampling,
        "update_images_per_second": batch / max(seconds - sampling, 1e-9),
        "images_per_second": batch / seconds,
        "gigabytes": gigabytes,
        "share_of_bfloat16_rate_in_rollouts": _flops(made) * batch / sampling / peak,
    }


def _rollout(made: Experiment) -> None:
    simulate(
        made.setting.problem,
        made.policy,
        made.grid,
        made.config.rollout.batch,
        generator=torch.Generator(made.generator.device).manual_seed(0),
        solver=made.setting.solver,
    )


def _flops(made: Experiment) -> float:
    """Of the network, in all steps of one image's rollout."""
    x, context = made.setting.problem.initial(1, torch.Generator(made.generator.device))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        made.setting.mean(x.new_zeros(1), x, context)
    return counter.get_total_flops() * made.config.rollout.steps


def _matmul_rate(device: torch.device) -> float:
    """FLOP/s of a product of two large bfloat16 matrices, the best of some."""
    n = 8192 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    seconds = min(_seconds(lambda: a @ a, device) for _ in range(10))
    return 2 * n**3 / seconds


def _seconds(work: Any, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _gigabytes(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _line(record: Record) -> str:
    shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in record.items()}
    return ", ".join(f"{k} {v}" for k, v in shown.items() if v is not None)


if __name__ == "__main__":
    sys.exit(main())
