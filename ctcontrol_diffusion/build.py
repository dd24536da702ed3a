"""THE ONLY PLACE WHERE CONFIG BECOMES OBJECTS."""

import gc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ctcontrol import (
    ActionAdvantage,
    AdvantageEstimator,
    Algorithm,
    Alone,
    Collective,
    ContinuousPPO,
    Critic,
    CtcontrolError,
    ElementwiseActionSDE,
    GaussianPolicy,
    GeneralizedAdvantage,
    Iteration,
    MonteCarloAdvantage,
    MonteCarloFit,
    NoiseAbsorbingPolicy,
    NoiseAwareAdvantage,
    NoiseAwareFit,
    PathwisePolicyGradient,
    Policy,
    StandardizePerContext,
    TemporalDifferenceAdvantage,
    TemporalDifferenceFit,
    TimeGrid,
    Updater,
    Value,
    WarmupCosine,
    improve,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.settings import Setting, setting_for


@dataclass(frozen=True, eq=False)
class Experiment:
    """The objects of a run. All that changes while it runs is in `stateful()` and `generator`."""

    config: c.Config
    setting: Setting
    policy: Policy
    algorithm: Algorithm
    grid: TimeGrid
    updater: Updater
    generator: torch.Generator
    value: Value | None
    critic: Critic | None
    critic_updater: Updater | None
    collective: Collective = field(default_factory=Alone)

    def iterations(self, start: int = 0) -> Iterator[Iteration]:
        """`improve` on these objects, from iteration `start` on."""
        return improve(
            self.setting.problem,
            self.policy,
            self.algorithm,
            self.grid,
            batch=self.config.rollout.batch,
            minibatch=self.config.update.minibatch,
            updater=self.updater,
            generator=self.generator,
            solver=self.setting.solver,
            value=self.value,
            critic=self.critic,
            critic_updater=self.critic_updater,
            policy_waits=_waits(self.config),
            start=start,
            micro_batch=self.config.micro_batch,
            collective=self.collective,
        )

    def modules(self) -> dict[str, torch.nn.Module]:
        """Networks that are trained, by name."""
        named: dict[str, torch.nn.Module] = {"policy": self.setting.mean}
        if self.value is not None:
            named["value"] = self.value
        return named

    def updaters(self) -> dict[str, Updater]:
        """Optimisers, by the name of the network they train."""
        named = {"policy": self.updater}
        if self.critic_updater is not None:
            named["value"] = self.critic_updater
        return named


def build(config: c.Config, collective: Collective | None = None) -> Experiment:
    """Make every object of the run; raises `CtcontrolError` for what cannot be built.

    Args:
        config: of the run.
        collective: processes that share it; this one alone by default.
    """
    device = device_called(config.device)
    initialization = torch.Generator(device="cpu").manual_seed(config.seed)
    with _no_search_for_garbage():
        setting = setting_for(config, device, initialization)
    grid = _grid(setting, config.rollout.steps)
    policy = _policy(config, setting, grid)
    learns_value = config.algorithm != "ddpo"
    value = setting.value if learns_value else None
    schedule = _schedule(config)
    return Experiment(
        config=config,
        setting=setting,
        policy=policy.to(device),
        algorithm=_algorithm(config),
        grid=grid,
        updater=Updater.adam(
            setting.mean,
            config.update.learning_rate,
            clip_norm=config.update.clip_norm,
            schedule=schedule,
            average_from=_average_from(config, schedule),
        ),
        generator=torch.Generator(device=device).manual_seed(config.seed + 1),
        value=value,
        critic=_critic(config.critic) if learns_value else None,
        critic_updater=_critic_updater(config, value) if value else None,
        collective=collective or Alone(),
    )


@contextmanager
def _no_search_for_garbage() -> Generator[None]:
    """Libraries are imported here, which makes no garbage: a search takes a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def device_called(name: str) -> torch.device:
    """A device that works here; raises `CtcontrolError` for another."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CtcontrolError(f"device {name!r} cannot be used ({reason}); try cpu") from None
    return device


def _grid(setting: Setting, steps: int) -> TimeGrid:
    if setting.grid is not None:
        return setting.grid(steps)
    return TimeGrid.uniform(setting.problem.horizon, steps)


def _waits(config: c.Config) -> int:
    """Iterations in which only the value learns: none without a value."""
    return 0 if config.algorithm == "ddpo" else config.critic.policy_waits


def _schedule(config: c.Config) -> WarmupCosine:
    update, waits = config.update, _waits(config)
    rows = round(update.share * config.rollout.batch * config.rollout.steps)
    each = update.epochs * max(1, rows // update.minibatch)
    return WarmupCosine(
        warmup=each * update.warmup,
        total=each * max(1, config.iterations - waits),
        final=_final(update.decay),
    )


def _average_from(config: c.Config, schedule: WarmupCosine) -> int | None:
    averaged = config.update.averaged
    return round((1 - averaged) * schedule.total) if averaged else None


def _critic_updater(config: c.Config, value: Value) -> Updater:
    """Its rate falls too: what a critic forgets late, the policy pays for in KL."""
    critic, rows = config.critic, config.rollout.batch * config.rollout.steps
    each = critic.epochs * max(1, rows // critic.minibatch)
    schedule = WarmupCosine(0, each * config.iterations, _final(critic.decay))
    return Updater.adam(value, critic.learning_rate, schedule=schedule)


def _final(decay: str) -> float:
    return 0.05 if decay == "cosine" else 1.0


def _policy(config: c.Config, setting: Setting, grid: TimeGrid) -> Policy:
    exploration = config.rollout.exploration
    if exploration != "absorbed":
        return GaussianPolicy(setting.mean, exploration)
    sde = setting.problem.sde
    if not isinstance(sde, ElementwiseActionSDE):
        raise CtcontrolError(
            "rollout.exploration = absorbed needs actions shaped like states (a score); give a "
            "number here, the standard deviation of the action"
        )
    return NoiseAbsorbingPolicy(setting.mean, sde, setting.solver, grid)


def _algorithm(config: c.Config) -> Algorithm:
    update = config.update
    if config.algorithm == "pathwise":
        return PathwisePolicyGradient(
            epochs=update.epochs,
            share=update.share,
            through_mean=config.critic.gradient == "full",
        )
    ddpo = config.algorithm == "ddpo"
    return ContinuousPPO(
        advantage=MonteCarloAdvantage() if ddpo else _advantage(config),
        clip=update.clip,
        epochs=update.epochs,
        share=update.share,
        log_ratio_scale=update.log_ratio_scale,
        transform=StandardizePerContext() if _standardizes(config) else None,
        credited=update.credited,
    )


def _standardizes(config: c.Config) -> bool:
    """A regulator has no prompts."""
    if config.update.standardize == "auto":
        return config.algorithm == "ddpo" and not isinstance(config.problem, c.LQ)
    return config.update.standardize == "per-prompt"


def _advantage(config: c.Config) -> AdvantageEstimator:
    match config.update.advantage:
        case "generalized":
            return GeneralizedAdvantage(config.update.advantage_decay)
        case "noise-aware":
            return NoiseAwareAdvantage(through_mean=config.critic.gradient == "full")
        case "closed-form":
            return ActionAdvantage(through_mean=config.critic.gradient == "full")
        case "temporal-difference":
            return TemporalDifferenceAdvantage()
        case "monte-carlo":
            return MonteCarloAdvantage()


def _critic(critic: c.Critic) -> Critic:
    settings = {"epochs": critic.epochs, "minibatch": critic.minibatch}
    match critic.fit:
        case "noise-aware":
            return NoiseAwareFit(**settings)
        case "monte-carlo":
            return MonteCarloFit(**settings)
        case "temporal-difference":
            return TemporalDifferenceFit(**settings)
