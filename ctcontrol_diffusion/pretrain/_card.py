"""The model card of the digits models, written from the record of their training."""

import math
from typing import Any

_TEMPLATE = """\
# Digits models

Three small networks on 8x8 images of handwritten digits, made by

    {command}

in {minutes:.1f} minutes; CPU threads: {threads}; versions: torch {torch}, diffusers {diffusers},
scikit-learn {sklearn}. `training.json` beside this file is the record all figures come from.

## Data

The 1,797 real digits that scikit-learn ships (`sklearn.datasets.load_digits`): the test part of
*Optical Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998, doi:10.24432/C50P49, license CC BY 4.0. Pixels v = 0..16 become v/8 - 1.
The classifiers train on a fixed, stratified 80 % ({train_images:,} images) and are tested on the
rest ({heldout_images}), which the same 13 people wrote; the denoiser trains on all.

## Denoiser (`denoiser.safetensors`)

A diffusers `UNet2DModel` with class embeddings, {denoiser_parameters:,} parameters, predicting the
noise of `DDPMScheduler` (1000 steps, linear betas 1e-4 to 0.02), the caption being a digit.

* **Caption noise:** at every visit of an image its caption is wrong with probability
  {wrong_probability:g}, and then one of the nine other digits, uniformly. The ideal model hence
  obeys its caption in {right:.0%} of its samples. This is on purpose: obeying is what fine-tuning
  teaches.
* **Training:** {iterations:,} updates of {batch_size} images, AdamW with peak learning rate
  {learning_rate:g} and cosine decay, weights averaged with decay {average_decay:g}, seed {seed}.
* **Loss:** {loss:.4f} ± {loss_stderr:.4f} (mean squared error of the predicted noise per pixel,
  averaged over steps, averaged weights, training images).

## Classifiers (`classifier_reward.safetensors`, `classifier_judge.safetensors`)

| | reward | judge |
|---|---|---|
| architecture | convolutional | dense |
| parameters | {reward_parameters:,} | {judge_parameters:,} |
| accuracy on {heldout_images} held out | {reward_accuracy:.2%} | {judge_accuracy:.2%} |
| accuracy on training images | {reward_train_accuracy:.2%} | {judge_train_accuracy:.2%} |
| negative log-likelihood, held out (nats) | {reward_nll:.4f} | {judge_nll:.4f} |
| mean confidence, held out | {reward_confidence:.4f} | {judge_confidence:.4f} |

{classifier_iterations:,} updates of {classifier_batch_size} images each, randomly rotated, scaled,
shifted and noised. The reward has label smoothing {label_smoothing:g}, which keeps log p(digit |
image) bounded below in practice: an ideal classifier says {floor:.1f} nats for a plainly wrong
digit. The judge has none, for the sake of its features, the space of Fréchet distances.

## Use and limits

Made to show and test the fine-tuning of diffusion models in minutes on a CPU; not for reading
digits in earnest, and knowing nothing outside this one data set. Weights are stored in float16 and
loaded as float32.

License of the weights: MIT, as the project. License of the data: CC BY 4.0 (see above).
"""


def model_card(record: dict[str, Any]) -> str:
    """Markdown from what :func:`.digits.pretrain_digits` measured; no figure is written by hand."""
    config, denoiser = record["config"], record["denoiser"]
    classifiers: dict[str, Any] = {}
    for name, measured in record["classifiers"].items():
        classifiers |= {
            f"{name}_parameters": measured["parameters"],
            f"{name}_accuracy": measured["heldout"]["accuracy"],
            f"{name}_train_accuracy": measured["train"]["accuracy"],
            f"{name}_nll": measured["heldout"]["negative_log_likelihood"],
            f"{name}_confidence": measured["heldout"]["confidence"],
        }
    smoothing = config["label_smoothing"]
    return _TEMPLATE.format(
        **config,
        **classifiers,
        command=record["command"],
        minutes=record["timing"]["seconds"] / 60,
        torch=record["versions"]["torch"],
        diffusers=record["versions"]["diffusers"],
        sklearn=record["versions"]["scikit-learn"],
        train_images=record["images"]["train"],
        heldout_images=record["images"]["heldout"],
        denoiser_parameters=denoiser["parameters"],
        loss=denoiser["loss"],
        loss_stderr=denoiser["loss_stderr"],
        right=1 - config["wrong_probability"],
        floor=math.log(smoothing / 10) if smoothing else -math.inf,
    )
