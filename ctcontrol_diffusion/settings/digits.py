"""The embedded digits: a class-conditional DDPM whose prompts are digits."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctcontrol import (
    Context,
    ControlProblem,
    CtcontrolError,
    Estimate,
    GaussianPolicy,
    MeanFunction,
    PathKL,
    PinnedValue,
    TerminalReward,
    TimeGrid,
    Trajectory,
    Variance,
    check_positive,
    simulate,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.frechet import frechet_distance, frechet_error
from ctcontrol_diffusion.models.digits import (
    DigitClassifier,
    digits_data,
    load_classifier,
    load_denoiser,
    noise_scheduler,
)
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.rewards import Metadata, TerminalImageReward, load_reward
from ctcontrol_diffusion.schedule import NoiseSchedule
from ctcontrol_diffusion.score import EpsilonScore, frozen, train_conditioning
from ctcontrol_diffusion.settings._base import Facts, Pictures, Row, Setting
from ctcontrol_diffusion.settings._images import LastStep, to_image
from ctcontrol_diffusion.settings.links import link_for
from ctcontrol_diffusion.solvers import DDIM
from ctcontrol_diffusion.values import DenoisedGuess, PixelResidual

SHAPE = (1, 8, 8)
CLASSES = 10
EVALUATION_SEED = 20_000
YARDSTICK_IMAGES = 1000


def digits(
    problem: c.Digits, config: c.Config, device: torch.device, generator: torch.Generator
) -> Setting:
    """The digits setting; raises `CtcontrolError` for a bad path, reward or number."""
    check_positive("problem.eta", problem.eta)
    check_positive("problem.floor", problem.floor)
    schedule = NoiseSchedule.from_diffusers(noise_scheduler(), problem.floor)
    score = EpsilonScore(load_denoiser(problem.denoiser, device), schedule).eval()
    reference = GaussianPolicy(frozen(copy.deepcopy(score)))
    if problem.trained == "conditioning":
        train_conditioning(score)
    pictures = Pictures(LastStep(reference, schedule), prompts, contexts)
    function = load_reward(problem.reward, classifier=load_classifier("reward").to(device))
    clean = TerminalImageReward(function, lambda x, _: to_image(x), prompts, _metadata)
    terminal = replace(clean, decode=pictures.decode)
    terminal.probe(*_Initial(device)(4, torch.Generator(device).manual_seed(0)))
    data = digits_data("all")
    control = ControlProblem(
        sde=ReverseSDE(schedule),
        reward=TerminalReward(terminal),
        initial=_Initial(device),
        horizon=schedule.horizon,
        regularizer=PathKL(reference, problem.kl_weight),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        residual = PixelResidual(schedule, 64, CLASSES, config.critic.width).to(device)
    variance = float(data.images.var(0).mean())
    guess = DenoisedGuess(score, schedule, clean, terminal, variance)
    link = link_for(config.critic, schedule.horizon, Variance(schedule.variance))
    judge = load_classifier("judge").to(device)
    real = judge.features(data.images.to(device))
    inspector = _Inspector(control, config, judge, real, pictures.decode)
    return Setting(
        problem=control,
        mean=score,
        value=PinnedValue(guess, residual, link).to(device),
        solver=DDIM(problem.eta),
        evaluate=inspector.evaluate,
        facts=inspector.facts,
        pictures=pictures,
    )


def prompts(context: Context) -> list[str]:
    """Labels to texts."""
    return [str(label) for label in context.tolist()]


def _metadata(context: Context) -> Metadata:
    return {"labels": context}


def contexts(texts: list[str]) -> Tensor:
    """Texts to labels."""
    bad = [text for text in texts if text.strip() not in {str(k) for k in range(CLASSES)}]
    if bad:
        raise CtcontrolError(f"prompt {bad[0]!r} is not a digit; the digits model takes 0 … 9")
    return torch.tensor([int(text) for text in texts])


@dataclass(frozen=True)
class _Initial:
    """N(0, I) and every digit equally often, in an order that starts anywhere."""

    device: torch.device

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(CLASSES, (), generator=generator, device=self.device)
        labels = (torch.arange(batch, device=self.device) + first) % CLASSES
        noise = torch.randn(batch, *SHAPE, generator=generator, device=self.device)
        return noise, labels


@dataclass(frozen=True, eq=False)
class _Inspector:
    """Samples a model in every way of the evaluation table, always from the same noise."""

    problem: ControlProblem
    config: c.Config
    judge: DigitClassifier
    real: Tensor
    decode: Callable[[Tensor, Context], Tensor]

    def evaluate(self, mean: MeanFunction, progress: Callable[[int, int], None]) -> list[Row]:
        """Reward, accuracy, Fréchet distance and KL for {SDE, ODE} × step counts."""
        cells = [(name, n) for name in ("SDE", "ODE") for n in self.config.evaluation.steps]
        # Small networks gain little from threads within an operation: one cell a thread instead.
        # The longest cells go first, so that no thread is left alone with one at the end.
        order = sorted(range(len(cells)), key=lambda i: -cells[i][1])
        pool = ThreadPoolExecutor(
            self.config.threads, initializer=torch.set_num_threads, initargs=(1,)
        )
        try:
            jobs = {i: pool.submit(self._row, mean, *cells[i]) for i in order}
            for done, job in enumerate(as_completed(jobs.values())):
                job.result()
                progress(done + 1, len(cells))
        finally:
            pool.shutdown(cancel_futures=True)
        return [jobs[i].result() for i in range(len(cells))]

    def _row(self, mean: MeanFunction, sampler: str, steps: int) -> Row:
        eta = 1.0 if sampler == "SDE" else 0.0
        moved = eta > 0 and not self._is_reference(mean)
        path = self._sample(mean, steps, self.config.evaluation.images, eta, measure_kl=moved)
        features = self.judge.features(self._images(path))
        numbers = {
            "reward": _pair(path.terminal),
            "accuracy": _pair(self._right(path)),
            "frechet": (
                frechet_distance(features, self.real),
                frechet_error(features, self.real),
            ),
        }
        if eta > 0:
            numbers["kl"] = _pair(path.divergence()) if moved else (0.0, 0.0)
        return Row({"sampler": sampler, "steps": steps}, numbers)

    def facts(self, progress: Callable[[int, int], None]) -> Facts:
        """The KL of the ideal aligned model, −mean over prompts of log P_base(right | prompt)."""
        reference = self._reference()
        steps = self.config.rollout.steps
        eta = self.config.problem.eta if isinstance(self.config.problem, c.Digits) else 1.0
        path = self._sample(reference.mean, steps, YARDSTICK_IMAGES, eta, measure_kl=False)
        right, labels = self._right(path), path.context
        share = torch.stack([right[labels == k].mean() for k in range(CLASSES)]).clamp_min(1e-3)
        count = torch.stack([(labels == k).sum() for k in range(CLASSES)])
        # delta method: sd of −log p̂ is sqrt((1 − p)/(p n)); the mean over prompts divides by 10
        error = float(((1 - share) / (share * count)).sum().sqrt() / CLASSES)
        progress(1, 1)
        return Facts(
            numbers={
                "ideal_kl": (float(-share.log().mean()), error),
                "base_accuracy": _pair(right),
            },
            texts={
                "ideal_kl": "nats: KL of the ideal aligned model, which draws the right digit as "
                "the pretrained model would: mean over prompts of −log P(right digit | prompt)",
                "base_accuracy": f"of the pretrained model at {steps} steps, by the judge",
            },
        )

    @torch.no_grad()
    def _sample(
        self, mean: MeanFunction, steps: int, images: int, eta: float, *, measure_kl: bool
    ) -> Trajectory:
        problem = self.problem if measure_kl else replace(self.problem, regularizer=None)
        return simulate(
            problem,
            GaussianPolicy(mean),
            TimeGrid.uniform(problem.horizon, steps),
            images,
            generator=torch.Generator(self.real.device).manual_seed(EVALUATION_SEED),
            solver=DDIM(eta),
        )

    def _images(self, path: Trajectory) -> Tensor:
        """Finished images in the classifiers' range, [-1, 1]."""
        return 2 * self.decode(path.final, path.context) - 1

    def _right(self, path: Trajectory) -> Tensor:
        return (self.judge(self._images(path)).argmax(1) == path.context).float()

    def _reference(self) -> GaussianPolicy:
        regularizer = self.problem.regularizer
        assert isinstance(regularizer, PathKL)
        assert isinstance(regularizer.reference, GaussianPolicy)
        return regularizer.reference

    def _is_reference(self, mean: MeanFunction) -> bool:
        """Equal weights give KL 0 exactly, without sampling."""
        pretrained = self._reference().mean
        if not isinstance(mean, torch.nn.Module) or not isinstance(pretrained, torch.nn.Module):
            return False
        pairs = zip(mean.parameters(), pretrained.parameters(), strict=True)
        return all(bool(torch.equal(p, q)) for p, q in pairs)


def _pair(samples: Tensor) -> tuple[float, float]:
    estimate = Estimate.of(samples)
    return estimate.mean, estimate.stderr
