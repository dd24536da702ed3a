"""How it is learned: every algorithm with its critic and steps, and how one run goes."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ctcontrol import (
    AdvantageEstimator,
    Algorithm,
    CenteredAdvantage,
    ContinuousPPO,
    Critic,
    CtcontrolError,
    ElementwiseActionSDE,
    Entropy,
    Estimate,
    EulerMaruyama,
    ItoAdvantage,
    KLPenalty,
    LearnedAdvantage,
    MonteCarloAdvantage,
    NaturalUpdater,
    NoiseAbsorbingPolicy,
    NoiseAwareAdvantage,
    NoiseAwareFit,
    NumericalError,
    PathwisePolicyGradient,
    Policy,
    PolicyGradient,
    ProximalRegression,
    QLearning,
    QLearningFit,
    RatedValue,
    RootKLPenalty,
    SarsaFit,
    TemporalDifferenceAdvantage,
    UncontrolledVolatilitySDE,
    Updater,
    WarmupCosine,
    improve,
)
from validation._problems import seeded
from validation.lessons.course import Course

CLIP = 100.0
"""Bound on gradient norms: out of the way, Adam sets the step."""


@dataclass(frozen=True)
class Method:
    """An algorithm with what belongs to it.

    Attributes:
        title: in the table.
        algorithm: course -> the algorithm.
        passes: over a rollout.
        parts: minibatches a pass; 0 for one a step of time.
        variant: of the course.
        natural: natural gradients with a line search.
        absorbs: the action carries the noise.
        rated: the critic learns the rates of the policy too.
        stranger: the starting policy acts all along.
        speed: of the policy, times the learning rate of the course.
    """

    title: str
    algorithm: Callable[[Course], Algorithm]
    parts: int = 4
    variant: str | None = None
    natural: bool = False
    absorbs: bool = False
    rated: bool = False
    stranger: bool = False
    speed: float = 1.0


@dataclass(frozen=True)
class Run:
    """How one run went.

    Attributes:
        path_steps: simulated up to each look at the regret.
        regrets: then, relative to the first.
    """

    path_steps: list[int] = field(default_factory=list)
    regrets: list[Estimate] = field(default_factory=list)

    @property
    def last(self) -> Estimate:
        """The regret at the end, relative to that at the beginning."""
        return self.regrets[-1]


def closed_form(course: Course) -> AdvantageEstimator:
    """Centred, or with the Hessian where the action moves the volatility."""
    shared = isinstance(course.problem.sde, UncontrolledVolatilitySDE)
    return CenteredAdvantage() if shared else ItoAdvantage()


def ppo(**settings: Any) -> Callable[[Course], Algorithm]:
    """`ContinuousPPO` with noise-aware advantages."""
    chosen: dict[str, Any] = {"advantage": NoiseAwareAdvantage(), "epochs": 4} | settings
    return lambda course: ContinuousPPO(**chosen)


METHODS = {
    "ppo_closed_form": Method(
        "PPO, clipped, closed-form advantages",
        lambda course: ContinuousPPO(advantage=closed_form(course), epochs=4),
    ),
    "ppo_td": Method(
        "PPO, clipped, temporal differences", ppo(advantage=TemporalDifferenceAdvantage())
    ),
    "ppo_noise_aware": Method("PPO, clipped, noise-aware advantages", ppo()),
    "ppo_kl": Method("PPO, adaptive KL", ppo(clip=None, trust=KLPenalty())),
    "cppo": Method(
        "CPPO, adaptive √KL", ppo(clip=None, trust=RootKLPenalty(coefficient=10.0, target=0.3))
    ),
    "trpo": Method(
        "TRPO, natural gradient",
        ppo(clip=None, epochs=1, trust=KLPenalty(coefficient=0.1, factor=1.0)),
        parts=1,
        natural=True,
    ),
    "pg_offline": Method(
        "policy gradient, offline",
        lambda course: PolicyGradient(advantage=NoiseAwareAdvantage()),
        parts=1,
        speed=3.0,
    ),
    "pg_online": Method(
        "policy gradient, online",
        lambda course: PolicyGradient(advantage=NoiseAwareAdvantage(), online=True),
        parts=0,
        speed=0.2,
    ),
    "pathwise": Method(
        "pathwise policy gradient", lambda course: PathwisePolicyGradient(), parts=4
    ),
    "proximal": Method("proximal regression", lambda course: ProximalRegression(epochs=4)),
    "sarsa": Method("PPO, clipped, learned rates", ppo(advantage=LearnedAdvantage()), rated=True),
    "q_on": Method("q-learning on policy", lambda course: QLearning(), variant="warm"),
    "q_off": Method(
        "q-learning off policy",
        lambda course: QLearning(epochs=4),
        variant="warm",
        stranger=True,
    ),
    "cqsm": Method(
        "Q-score matching", lambda course: ProximalRegression(epochs=4), variant="moving"
    ),
    "ddpo": Method("DDPO", ppo(advantage=MonteCarloAdvantage()), absorbs=True),
}


class MeanOf(nn.Module):
    """The mean action of a policy, as a function."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.policy.dist(t, x, context).mean


def learn(course: Course, method: Method, seed: int, looks: int = 8) -> Run:
    """One run of the training loop, and the regret now and then.

    Raises:
        CtcontrolError: the method does not apply, and why.
    """
    course = course.variant(method.variant)
    if method.stranger:
        course = replace(course, grid=course.grid.refine(course.finer))
    policy, value, problem = course.policy(seed), course.value(seed), course.problem
    acting, steps = policy, course.grid.steps
    if method.absorbs:
        sde: ElementwiseActionSDE = problem.sde  # type: ignore[assignment]  # the policy checks it
        acting = NoiseAbsorbingPolicy(MeanOf(policy), sde, EulerMaruyama(), course.grid)
    if method.rated:
        value = RatedValue(value, course.slopes(seed))
    algorithm, rows = method.algorithm(course), course.batch * steps
    updates = course.iterations * algorithm.epochs * (method.parts or steps)
    updater = (
        NaturalUpdater(acting, 0.01)
        if method.natural
        else _adam(acting, method.speed * course.rates[0], updates)
    )
    without = method.absorbs
    loop = improve(
        problem,
        acting,
        algorithm,
        course.grid,
        batch=course.batch,
        minibatch=rows // method.parts if method.parts else course.batch,
        updater=updater,
        generator=seeded(1000 + seed),
        behavior=course.policy(seed) if method.stranger else None,
        value=None if without else value,
        critic=None if without else _critic(course, method, policy, rows),
        critic_updater=None if without else _adam(value, course.rates[1], 16 * course.iterations),
        policy_waits=0 if without else max(1, course.iterations // 20),
    )
    first, run = course.regret(policy).mean, Run()
    every = max(1, course.iterations // looks)
    try:
        for turn in itertools.islice(loop, course.iterations):
            done = turn.index + 1
            if done % every == 0 or done == course.iterations:
                now = _regret(course, policy)
                run.path_steps.append(done * course.batch * steps)
                run.regrets.append(Estimate(now.mean / first, now.stderr / first, now.n))
    except NumericalError:  # it has diverged
        run.path_steps.append(course.path_steps)
        run.regrets.append(Estimate(math.inf, 0.0, 1))
    return run


def _adam(module: nn.Module, rate: float, updates: int) -> Updater:
    """Adam whose rate falls to a twentieth along a cosine."""
    fall = WarmupCosine(0, updates, final=0.05)
    return Updater.adam(module, rate, clip_norm=CLIP, schedule=fall)


def _critic(course: Course, method: Method, policy: Policy, rows: int) -> Critic:
    passes = {"epochs": 4, "minibatch": rows // 4}
    if method.variant == "warm":
        entropy = course.problem.regularizer
        temperature = entropy.temperature if isinstance(entropy, Entropy) else 1.0
        return QLearningFit(policy=policy, temperature=temperature, **passes)
    return SarsaFit(**passes) if method.rated else NoiseAwareFit(**passes)


def _regret(course: Course, policy: Policy) -> Estimate:
    """Infinite where the policy's return is not finite."""
    try:
        return course.regret(policy)
    except CtcontrolError:
        return Estimate(math.inf, 0.0, 1)
