"""Our side: the preset for Stable Diffusion with DDPO, cut to the work."""

import warnings
from dataclasses import replace
from typing import Any

import torch

from benchmarks.trl.work import Work, measure


def main() -> None:
    """Measure the work told by the command line."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    work = Work.told()
    from ctcontrol_diffusion.build import build
    from ctcontrol_diffusion.check import check_config
    from ctcontrol_diffusion.config import StableDiffusion
    from ctcontrol_diffusion.presets import preset

    start = preset("sd15-jpeg-ddpo")
    assert isinstance(start.problem, StableDiffusion)
    config = replace(
        start,
        problem=replace(
            start.problem,
            model=work.model,
            reward="brightness",
            precision="float32",
            gradient_checkpointing=False,
            kl_weight=0.0,
            lora_rank=work.rank,
            guidance=work.guidance,
            images_per_prompt=work.images,
        ),
        device="cpu",
        threads=1,
        micro_batch=work.at_once,
        rollout=replace(start.rollout, steps=work.steps, batch=work.images),
        update=replace(start.update, minibatch=work.images * work.steps, warmup=0),
    )
    experiment = build(check_config(config))
    iterations = experiment.iterations()
    network: Any = experiment.setting.mean.get_submodule("network")
    names = ["torch", "diffusers", "transformers", "peft"]
    measure(work, lambda: _one(iterations), network, names)


def _one(iterations: Any) -> None:
    assert next(iterations).updates == 1


if __name__ == "__main__":
    main()
