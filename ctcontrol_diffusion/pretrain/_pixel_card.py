"""The model card of a model of pixels, written from the record of its training."""

from typing import Any

_TEMPLATE = """\
---
library_name: diffusers
pipeline_tag: unconditional-image-generation
---

# A diffusion model of {channels} × {height} × {width} images

A diffusers `DDPMPipeline` of a `UNet2DModel`, {parameters:,} parameters ({network}), made by

    {command}

in {minutes:.1f} minutes; device: {device}; CPU threads: {threads}; versions: torch {torch},
diffusers {diffusers}. `training.json` beside this file is the record all figures come from, and
`samples.png` holds images by DDIM, 50 steps.

* **Data:** {images:,} images, mirrored at random: {mirrored}.
  Their terms are those of their source.
* **Training:** {iterations:,} updates of {batch_size} images ({passes:.1f} passes), AdamW with
  peak learning rate {learning_rate:g} and cosine decay, dropout {dropout:g}, weights averaged with
  decay {average_decay:g}, computed in {precision}, seed {seed}.
* **Noise:** 1000 steps, {betas} schedule; the network predicts {predicted}.
* **Loss:** {loss:.4f} ± {loss_stderr:.4f} (mean squared error of the prediction per pixel,
  averaged over steps, averaged weights, training images).

Load it with `DDPMPipeline.from_pretrained(FOLDER)`, or fine-tune it with
`python -m ctcontrol_diffusion.train cifar10-t10 --problem.model FOLDER`.
"""


def pixel_card(record: dict[str, Any]) -> str:
    """Markdown from what :func:`.pixels.start` measured; no figure is written by hand."""
    config = record["config"]
    channels, height, width = record["shape"]
    return _TEMPLATE.format(
        **(config | {"images": record["images"]}),
        channels=channels,
        height=height,
        width=width,
        predicted="the noise" if config["prediction"] == "epsilon" else "v",
        parameters=record["parameters"],
        command=record["command"],
        minutes=record["seconds"] / 60,
        torch=record["versions"]["torch"],
        diffusers=record["versions"]["diffusers"],
        mirrored="yes" if config["flips"] else "no",
        passes=config["iterations"] * config["batch_size"] / record["images"],
        loss=record["loss"],
        loss_stderr=record["loss_stderr"],
    )
