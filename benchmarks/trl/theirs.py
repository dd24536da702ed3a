"""TRL's side; runs in an environment of its own."""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from work import Work, measure

LUMINANCE = torch.tensor([0.299, 0.587, 0.114])


def brightness(images: torch.Tensor, prompts: object, metadata: object) -> Any:
    """Mean luminance."""
    return images.float().mean((2, 3)) @ LUMINANCE, {}


def main() -> None:
    """Measure the work told by the command line."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    work = Work.told()
    # TRL logs before it has made the Accelerator that its logger needs, where a model has no LoRA.
    from accelerate import PartialState

    PartialState(cpu=True)
    trl: Any = import_module("trl")
    pipeline = trl.DefaultDDPOStableDiffusionPipeline(work.model, pretrained_model_revision=None)
    config = trl.DDPOConfig(
        exp_name="work",
        mixed_precision="no",
        sample_num_steps=work.steps,
        sample_guidance_scale=work.guidance,
        sample_batch_size=work.images,
        sample_num_batches_per_epoch=1,
        train_batch_size=work.images,
        save_freq=10**9,
        accelerator_kwargs={"cpu": True},
    )
    trainer: Any = trl.DDPOTrainer(config, brightness, lambda: ("cat", {}), pipeline)
    pipeline.set_progress_bar_config(disable=True)
    epochs = iter(range(10**9))
    assert work.rank == 4, "TRL knows no other rank"
    names = ["trl", "torch", "diffusers", "transformers", "peft", "accelerate"]
    measure(work, lambda: _step(trainer, next(epochs)), pipeline.unet, names)


def _step(trainer: Any, epoch: int) -> None:
    trainer.step(epoch, 0)


if __name__ == "__main__":
    main()
