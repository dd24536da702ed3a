"""The embedded digits: a class-conditional DDPM whose prompts are digits."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import Tensor

from ctcontrol import (
    Context,
    ControlProblem,
    CtcontrolError,
    Estimate,
    GaussianPolicy,
    PathKL,
    TerminalReward,
    TimeGrid,
    Trajectory,
    check_positive,
    simulate,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.inspection import SEED as EVALUATION_SEED
from ctcontrol_diffusion.inspection import Inspector, Plan, RealImages
from ctcontrol_diffusion.models.digits import (
    DigitClassifier,
    digits_data,
    load_classifier,
    load_denoiser,
    noise_scheduler,
    save_denoiser,
)
from ctcontrol_diffusion.publish import Published, compared
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.rewards import Metadata, TerminalImageReward, load_reward
from ctcontrol_diffusion.schedule import NoiseSchedule
from ctcontrol_diffusion.schedulers import scheduler_named
from ctcontrol_diffusion.score import EpsilonScore, frozen, train_conditioning
from ctcontrol_diffusion.settings._base import Facts, Pictures, Progress, Setting
from ctcontrol_diffusion.settings._images import LastStep, to_image
from ctcontrol_diffusion.settings.critic import ImageModel, value_for
from ctcontrol_diffusion.solvers import DDIM

SHAPE = (1, 8, 8)
CLASSES = 10
YARDSTICK_IMAGES = 1000


def digits(
    problem: c.Digits, config: c.Config, device: torch.device, generator: torch.Generator
) -> Setting:
    """The digits setting; raises `CtcontrolError` for a bad path, reward or number."""
    check_positive("problem.eta", problem.eta)
    check_positive("problem.floor", problem.floor)
    schedule = NoiseSchedule.from_diffusers(noise_scheduler(), problem.floor)
    network = load_denoiser(problem.denoiser, device)
    score = EpsilonScore(network, schedule).eval()
    reference = GaussianPolicy(frozen(copy.deepcopy(score)))
    if problem.trained == "conditioning":
        train_conditioning(score)
    held_out = tuple(sorted(set(problem.held_out)))
    seen = tuple(str(k) for k in range(CLASSES) if str(k) not in held_out)
    initial = _Initial(device, tuple(map(int, seen)))
    pictures = Pictures(LastStep(reference, schedule), prompts, contexts, seen, held_out)
    classifier = load_classifier("reward").to(device)
    load = partial(load_reward, classifier=classifier, device=str(device))
    function = load(problem.reward)
    clean = TerminalImageReward(function, lambda x, _: to_image(x), prompts, _metadata)
    terminal = replace(clean, decode=pictures.decode)
    terminal.probe(*initial(4, torch.Generator(device).manual_seed(0)))
    data = digits_data("all")
    control = ControlProblem(
        sde=ReverseSDE(schedule),
        reward=TerminalReward(terminal, beside=True),
        initial=initial,
        horizon=schedule.horizon,
        regularizer=PathKL(reference, problem.kl_weight),
    )
    variance = float(data.images.var(0).mean())
    model = ImageModel(score, schedule, clean, terminal, SHAPE, CLASSES, variance)
    judge = _Judge(load_classifier("judge").to(device))
    real = judge.classifier.features(data.images.to(device))
    solver = DDIM(problem.eta)
    yardstick = _Yardstick(
        control, schedule, reference, solver, config.rollout.steps, pictures.decode, judge, device
    )
    inspector = Inspector(
        problem=control,
        grid=partial(TimeGrid.uniform, schedule.horizon),
        decode=pictures.decode,
        clean=clean,
        contexts=contexts,
        plan=Plan(
            steps=config.evaluation.steps,
            images=config.evaluation.images,
            groups={"seen": seen, "unseen": held_out} if held_out else {},
            rewards={name: load(name) for name in config.evaluation.rewards},
            real=RealImages(judge.features, real, "the judge"),
        ),
        scheduler=partial(scheduler_named, original=noise_scheduler()),
        load=load,
        batch=config.evaluation.images,
        device=device,
        measures={"accuracy": judge.right},
        threads=config.threads,
    )
    return Setting(
        problem=control,
        mean=score,
        value=value_for(config.critic, model, "perceptron", device, generator),
        solver=solver,
        evaluate=inspector.evaluate,
        facts=yardstick.facts,
        pictures=pictures,
        inspector=inspector,
        publish=lambda folder: _publish(network, folder, yardstick),
    )


USAGE = (
    "python -m ctcontrol_diffusion.train digits --problem.denoiser {folder}/denoiser.safetensors"
)


def _publish(network: UNet2DModel, folder: Path, yardstick: "_Yardstick") -> Published:
    """Write denoiser.safetensors, of full precision, from which a run can start."""
    path, schedule = folder / "denoiser.safetensors", yardstick.schedule
    save_denoiser(network, path, torch.float32)
    again = load_denoiser(path, yardstick.device)
    theirs, ours = (
        yardstick.images(GaussianPolicy(EpsilonScore(some, schedule))) for some in (again, network)
    )
    base = yardstick.images(yardstick.reference)
    return Published("denoiser", "digits", USAGE, *compared(theirs, ours, base))


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
    """N(0, I) and every digit that is trained equally often, in an order that starts anywhere."""

    device: torch.device
    digits: tuple[int, ...] = tuple(range(CLASSES))

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        count = len(self.digits)
        first = torch.randint(count, (), generator=generator, device=self.device)
        turn = (torch.arange(batch, device=self.device) + first) % count
        labels = torch.tensor(self.digits, device=self.device)[turn]
        noise = torch.randn(batch, *SHAPE, generator=generator, device=self.device)
        return noise, labels


@dataclass(frozen=True, eq=False)
class _Judge:
    """The second classifier, which no policy is rewarded by."""

    classifier: DigitClassifier

    def features(self, images: Tensor) -> Tensor:
        return self.classifier.features(2 * images - 1)

    def right(self, images: Tensor, context: Context) -> Tensor:
        """1 where the image is the digit of its prompt."""
        return (self.classifier(2 * images - 1).argmax(1) == context).float()


@dataclass(frozen=True, eq=False)
class _Yardstick:
    """The KL of the ideal aligned model, −mean over prompts of log P_base(right | prompt)."""

    problem: ControlProblem
    schedule: NoiseSchedule
    reference: GaussianPolicy
    solver: DDIM
    steps: int
    decode: Callable[[Tensor, Context], Tensor]
    judge: _Judge
    device: torch.device

    @torch.no_grad()
    def facts(self, progress: Progress) -> Facts:
        path = self._sampled(self.reference, YARDSTICK_IMAGES)
        right = self.judge.right(self.decode(path.final, path.context), path.context)
        labels = path.context
        drawn = labels.unique()
        share = torch.stack([right[labels == k].mean() for k in drawn]).clamp_min(1e-3)
        count = torch.stack([(labels == k).sum() for k in drawn])
        # delta method: sd of −log p̂ is sqrt((1 − p)/(p n)); over prompts by their number
        error = float(((1 - share) / (share * count)).sum().sqrt() / len(drawn))
        mean = Estimate.of(right)
        progress(1, 1)
        return Facts(
            numbers={
                "ideal_kl": (float(-share.log().mean()), error),
                "base_accuracy": (mean.mean, mean.stderr),
            },
            texts={
                "ideal_kl": "nats: KL of the ideal aligned model, which draws the right digit as "
                "the pretrained model would: mean over prompts of −log P(right digit | prompt)",
                "base_accuracy": f"of the pretrained model at {self.steps} steps, by the judge",
            },
        )

    @torch.no_grad()
    def images(self, policy: GaussianPolicy) -> Tensor:
        """One of every digit, in [0, 1], always from the same noise."""
        path = self._sampled(policy, CLASSES)
        return self.decode(path.final, path.context)

    def _sampled(self, policy: GaussianPolicy, count: int) -> Trajectory:
        return simulate(
            replace(self.problem, regularizer=None),
            policy,
            TimeGrid.uniform(self.problem.horizon, self.steps),
            count,
            generator=torch.Generator(self.device).manual_seed(EVALUATION_SEED),
            solver=self.solver,
        )
