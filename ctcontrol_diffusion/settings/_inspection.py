"""The evaluation table of an image model: samplers, ours and those of diffusers, × steps."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ctcontrol import (
    ControlProblem,
    Estimate,
    GaussianPolicy,
    MeanFunction,
    PathKL,
    Trajectory,
    simulate,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.frechet import frechet_distance, frechet_error
from ctcontrol_diffusion.rewards import TerminalImageReward
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.schedulers import sample_with
from ctcontrol_diffusion.score import NetworkScore
from ctcontrol_diffusion.settings._base import Progress, Row
from ctcontrol_diffusion.settings._images import to_image
from ctcontrol_diffusion.solvers import DDIM

SEED = 20_000


@dataclass(frozen=True, eq=False)
class Inspector:
    """Samples a model in every way of the table, always from the same noise, batch after batch.

    Attributes:
        problem: what is trained.
        schedule: of the model.
        schedulers: name -> scheduler of diffusers, evaluated besides SDE and ODE.
        config: step counts and number of images.
        batch: images sampled together.
        decode: states at the horizon to images; schedulers of diffusers end in clean states.
        clean: reward of clean states.
        features: images in [0, 1] -> (n, k), for the Fréchet distance to `real`; None for none.
        real: (m, k), features of real images.
        device: of the states.
    """

    problem: ControlProblem
    schedule: Schedule
    schedulers: Mapping[str, Any]
    config: c.Evaluation
    batch: int
    decode: Callable[[Tensor, Any], Tensor]
    clean: TerminalImageReward
    features: Callable[[Tensor], Tensor] | None
    real: Tensor | None
    device: torch.device

    def evaluate(self, mean: MeanFunction, progress: Progress) -> list[Row]:
        """Reward, KL to the pretrained model and Fréchet distance, for every cell."""
        cells = [(name, n) for name in ("SDE", "ODE", *self.schedulers) for n in self.config.steps]
        rows: list[Row] = []
        for name, steps in cells:
            rows.append(self._row(mean, name, steps))
            progress(len(rows), len(cells))
        return rows

    @torch.no_grad()
    def _row(self, mean: MeanFunction, name: str, steps: int) -> Row:
        generator = torch.Generator(self.device).manual_seed(SEED)
        samples: dict[str, list[Tensor]] = {}
        for size in _sizes(self.config.images, self.batch):
            if name in self.schedulers:
                part = self._by_scheduler(mean, name, steps, size, generator)
            else:
                part = self._by_ours(mean, name, steps, size, generator)
            for key, value in part.items():
                samples.setdefault(key, []).append(value)
        whole = {key: torch.cat(parts) for key, parts in samples.items()}
        features = whole.pop("features", None)
        numbers = {key: _pair(values) for key, values in whole.items()}
        if features is not None and self.real is not None:
            distance = frechet_distance(features, self.real)
            numbers["frechet"] = (distance, frechet_error(features, self.real))
        return Row({"sampler": name, "steps": steps}, numbers)

    def _by_ours(
        self, mean: MeanFunction, name: str, steps: int, size: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """SDE is the ancestral sampler, whatever was used in training, so that rows compare."""
        stochastic = name == "SDE"
        measured = stochastic and not self._is_reference(mean)
        problem = self.problem if measured else replace(self.problem, regularizer=None)
        path = simulate(
            problem,
            GaussianPolicy(mean),
            self.schedule.grid(steps),
            size,
            generator=generator,
            solver=DDIM(1.0 if stochastic else 0.0),
        )
        found = {"reward": path.terminal} | self._described(self._images(path))
        if stochastic:
            found["kl"] = path.divergence() if measured else torch.zeros(size)
        return found

    def _by_scheduler(
        self, mean: MeanFunction, name: str, steps: int, size: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        noise, context = self.problem.initial(size, generator)
        assert isinstance(mean, NetworkScore)
        x = sample_with(self.schedulers[name], mean, noise, context, steps, generator)
        return {"reward": self.clean(x, context)} | self._described(to_image(x))

    def _described(self, images: Tensor) -> dict[str, Tensor]:
        return {} if self.features is None else {"features": self.features(images)}

    def _images(self, path: Trajectory) -> Tensor:
        return self.decode(path.final, path.context)

    def _is_reference(self, mean: MeanFunction) -> bool:
        """Equal answers to the last bit, on a few states: KL is 0 then, without sampling."""
        regularizer = self.problem.regularizer
        assert isinstance(regularizer, PathKL)
        assert isinstance(regularizer.reference, GaussianPolicy)
        generator = torch.Generator(self.device).manual_seed(SEED)
        x, context = self.problem.initial(4, generator)
        t = torch.linspace(0, self.schedule.horizon, 4, device=self.device)
        return torch.equal(mean(t, x, context), regularizer.reference.mean(t, x, context))


def _sizes(images: int, batch: int) -> Iterator[int]:
    """Batches of about equal size, none larger than `batch`."""
    parts = -(-images // batch)
    yield from (images // parts + (k < images % parts) for k in range(parts))


def _pair(samples: Tensor) -> tuple[float, float]:
    estimate = Estimate.of(samples)
    return estimate.mean, estimate.stderr
