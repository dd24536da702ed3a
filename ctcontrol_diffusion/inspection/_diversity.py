"""How different the images of one prompt are."""

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST = 1000
"""Images of a prompt that are compared with one another, at most."""


def diversity(features: Float[Tensor, "n k"], prompts: list[str]) -> tuple[float, float | None]:
    """Mean over prompts of the mean of |f_i − f_j| over the pairs of a prompt, with its error.

    The error is over the choice of images, by the jackknife; where a prompt has but two, over the
    choice of prompts. Prompts with one image have no pairs and are left out; (nan, None) if that
    leaves none, and no error where there is none to be had.
    """
    rows: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(i)
    groups = [features[some[:LARGEST]] for some in rows.values() if len(some) > 1]
    if not groups:
        return float("nan"), None
    found = [_pairs(group.detach().double().flatten(1)) for group in groups]
    means = torch.tensor([mean for mean, _ in found], dtype=torch.float64)
    errors = [error for _, error in found if error is not None]
    if len(errors) == len(found):
        stderr = float(torch.tensor(errors).square().sum().sqrt()) / len(found)
    else:
        stderr = float(means.std()) / len(means) ** 0.5 if len(means) > 1 else None
    return float(means.mean()), stderr


def _pairs(features: Tensor) -> tuple[float, float | None]:
    """Mean distance and its jackknife error; no error of fewer than three images."""
    n = len(features)
    near = "donot_use_mm_for_euclid_dist"  # by differences: of close points the product knows none
    sums = torch.cdist(features, features, compute_mode=near).sum(1)
    mean = float(sums.sum()) / (n * (n - 1))
    if n < 3:
        return mean, None
    without = (sums.sum() - 2 * sums) / ((n - 1) * (n - 2))
    return mean, float(((n - 1) / n * (without - without.mean()).square().sum()).sqrt())
