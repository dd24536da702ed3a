"""Samples a model in every way of the table and measures what comes out."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ctcontrol import (
    Context,
    ControlProblem,
    GaussianPolicy,
    MeanFunction,
    PathKL,
    Scalar,
    State,
    TerminalReward,
    TimeGrid,
    simulate,
)
from ctcontrol_diffusion.inspection._plan import ODE, SDE, Cell, Plan
from ctcontrol_diffusion.inspection._row import Progress, Row
from ctcontrol_diffusion.inspection._samples import Samples
from ctcontrol_diffusion.inspection._statistics import image_statistics
from ctcontrol_diffusion.rewards import CheckedReward, TerminalImageReward
from ctcontrol_diffusion.schedulers import sample_with, set_steps
from ctcontrol_diffusion.solvers import DDIM

SEED = 20_000
COARSE = 32


@dataclass(frozen=True, eq=False)
class Inspector:
    """Samples a model in every way of a plan, always from the same noise, batch after batch.

    Attributes:
        problem: what is trained; its regularizer is the path KL to the pretrained model.
        grid: number of steps -> the times of a rollout.
        decode: (states at the horizon, context) -> images (n, channels, h, w) in [0, 1].
        clean: the training reward of clean states, in which schedulers of diffusers end, with what
            decodes these, their prompts and their metadata.
        contexts: texts -> context, on any device.
        plan: what a run measures before and after training.
        scheduler: name -> scheduler of diffusers; raises `CtcontrolError` with the reason if it
            does not go with the model.
        load: name -> reward, with whatever the setting has for it (a classifier, a device).
        measures: name -> (images, context) -> (n,), what the setting itself knows to measure.
        batch: images sampled together.
        device: of the states.
        threads: cells measured beside each other; for small networks on a CPU.
    """

    problem: ControlProblem
    grid: Callable[[int], TimeGrid]
    decode: Callable[[State, Context], Tensor]
    clean: TerminalImageReward
    contexts: Callable[[list[str]], Context]
    plan: Plan
    scheduler: Callable[[str], Any]
    load: Callable[[str], CheckedReward]
    batch: int
    device: torch.device
    measures: Mapping[str, Callable[[Tensor, Context], Tensor]] = field(default_factory=dict)
    threads: int = 1

    def check(self, plan: Plan) -> None:
        """Whether every cell of a plan can be computed, before the first one is.

        Raises:
            CtcontrolError: an incompatible scheduler, too many steps, a prompt that the model does
                not take, a reward that does not give finite numbers.
        """
        for steps in plan.steps:
            self.grid(steps)
        for name in plan.samplers:
            if name not in (SDE, ODE):
                scheduler = self.scheduler(name)
                for steps in plan.steps:
                    set_steps(scheduler, steps, self.device)
        for texts in plan.groups.values():
            self.contexts(list(texts))
        generator = torch.Generator(self.device).manual_seed(plan.seed)
        x, context = self.problem.initial(2, generator)
        with torch.no_grad():
            images = self.clean.decode(x, context)
        for reward in plan.rewards.values():
            reward.probe(images, self.clean.prompts(context), self.clean.metadata(context))

    def evaluate(self, mean: MeanFunction, progress: Progress) -> list[Row]:
        """A row for every cell of the run's own plan; `progress` is told (done, all)."""
        return self.rows(mean, self.plan, progress)

    def rows(self, mean: MeanFunction, plan: Plan, progress: Progress) -> list[Row]:
        """A row for every cell of a plan, in its order."""
        cells = plan.cells()
        found: dict[Cell, Row] = {}
        for cell, samples in self.measured(mean, cells, plan):
            found[cell] = samples.row(cell, plan)
            progress(len(found), len(cells))
        return [found[cell] for cell in cells]

    def measured(
        self,
        mean: MeanFunction,
        cells: list[Cell],
        plan: Plan,
        tell: Callable[[int], None] = lambda images: None,
    ) -> Iterator[tuple[Cell, Samples]]:
        """Every cell with its samples, as they are ready; `tell` is given the images just done.

        Raises:
            CtcontrolError, RewardError: as `samples`.
        """
        moved = not self.is_reference(mean)
        if self.threads == 1:
            for cell in cells:
                yield cell, self.samples(mean, cell, plan, measured=moved, tell=tell)
            return
        # Small networks gain little from threads within an operation: one cell a thread instead.
        # The longest cells go first, so that no thread is left alone with one at the end.
        order = sorted(cells, key=lambda cell: -cell.steps)
        pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            jobs = {pool.submit(self.samples, mean, c, plan, measured=moved): c for c in order}
            for job in as_completed(jobs):
                tell(plan.images)
                yield jobs[job], job.result()
        finally:
            pool.shutdown(cancel_futures=True)

    @torch.no_grad()
    def samples(
        self,
        mean: MeanFunction,
        cell: Cell,
        plan: Plan,
        *,
        measured: bool,
        tell: Callable[[int], None] = lambda images: None,
    ) -> Samples:
        """The images of a cell, measured; `measured` says whether KL is to be simulated or is 0.

        `tell` is given the images of each batch.

        Raises:
            CtcontrolError: a prompt or number of steps that the model cannot take.
            RewardError: a reward that fails.
        """
        generator = torch.Generator(self.device).manual_seed(plan.seed)
        texts = plan.texts(cell.prompts)
        parts: list[Samples] = []
        done = 0
        for size in sizes(plan.images, self.batch):
            some = None if texts is None else texts[done : done + size]
            problem = self.problem if some is None else self._prompted(some)
            images, context, kl = self._drawn(mean, problem, cell, size, generator, measured)
            parts.append(self._described(images, context, kl, plan, plan.shown - done))
            done += size
            tell(size)
        return Samples.joined(parts)

    def _drawn(
        self,
        mean: MeanFunction,
        problem: ControlProblem,
        cell: Cell,
        size: int,
        generator: torch.Generator,
        measured: bool,
    ) -> tuple[Tensor, Context, Tensor | None]:
        """Images, their context, and KL (steps, batch) for the SDE.

        SDE is the ancestral sampler, whatever was used in training, so that rows compare.
        """
        if cell.sampler not in (SDE, ODE):
            noise, context = problem.initial(size, generator)
            scheduler = self.scheduler(cell.sampler)
            score: Any = mean  # whatever a scheduler of diffusers can sample
            x = sample_with(scheduler, score, noise, context, cell.steps, generator)
            return self.clean.decode(x, context), context, None
        stochastic = cell.sampler == SDE
        measured = measured and stochastic
        path = simulate(
            replace(
                problem,
                reward=TerminalReward(_nothing),  # images are decoded once, and then judged
                regularizer=problem.regularizer if measured else None,
            ),
            GaussianPolicy(mean),
            self.grid(cell.steps),
            size,
            generator=generator,
            solver=DDIM(1.0 if stochastic else 0.0),
        )
        kl = path.penalties if stochastic else None
        return self.decode(path.final, path.context), path.context, kl

    def _prompted(self, texts: list[str]) -> ControlProblem:
        """The problem with these prompts and the noise it would have had without."""

        def initial(batch: int, generator: torch.Generator) -> tuple[State, Context]:
            states, _ = self.problem.initial(batch, generator)
            context = self.contexts(texts)
            return states, context.to(states.device) if isinstance(context, Tensor) else context

        return replace(self.problem, initial=initial)

    def _described(
        self, images: Tensor, context: Context, kl: Tensor | None, plan: Plan, shown: int
    ) -> Samples:
        texts, metadata = self.clean.prompts(context), self.clean.metadata(context)
        values = {"reward": self.clean.reward(images, texts, metadata)[0]}
        values |= {name: measure(images, context) for name, measure in self.measures.items()}
        for name, reward in plan.rewards.items():
            values[name] = reward(images, texts, metadata)[0]
        if kl is not None:
            values["kl"] = kl.sum(0)
        values |= image_statistics(images)
        features = _pixels(images) if plan.real is None else plan.real.features(images)
        return Samples(
            {key: value.detach().cpu() for key, value in values.items()},
            features.detach().cpu(),
            None if kl is None else kl.cpu(),
            texts,
            images[: max(shown, 0)].cpu(),
        )

    def is_reference(self, mean: MeanFunction) -> bool:
        """Equal answers to the last bit, on a few states: KL is 0 then, without sampling."""
        regularizer = self.problem.regularizer
        assert isinstance(regularizer, PathKL)
        generator = torch.Generator(self.device).manual_seed(SEED)
        x, context = self.problem.initial(4, generator)
        t = torch.linspace(0, self.problem.horizon, 4, device=self.device)
        with torch.no_grad():
            theirs = regularizer.reference.dist(t, x, context).mean
            return torch.equal(mean(t, x, context), theirs)


def _pixels(images: Tensor) -> Tensor:
    """Where there are no features: the pixels, of large images means over squares of them."""
    height, width = images.shape[-2:]
    return adaptive_avg_pool2d(images, (min(COARSE, height), min(COARSE, width))).flatten(1)


def _nothing(x: State, context: Context) -> Scalar:
    return x.new_zeros(len(x))


def sizes(images: int, batch: int) -> Iterator[int]:
    """Batches of about equal size, none larger than `batch`."""
    parts = -(-images // batch)
    yield from (images // parts + (k < images % parts) for k in range(parts))
