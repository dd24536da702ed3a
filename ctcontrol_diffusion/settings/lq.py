"""A linear-quadratic regulator: the same algorithms, and an answer known to twelve digits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ctcontrol import Context, EulerMaruyama, MeanFunction, PinnedValue, Scalar, State, Time
from ctcontrol.exact.lq import LinearGaussianLaw, LinearGaussianPolicy, LQProblem
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.settings._base import Facts, Row, Setting
from ctcontrol_diffusion.settings.links import link_for

PIECES = 10


def lq(
    problem: c.LQ, config: c.Config, device: torch.device, generator: torch.Generator
) -> Setting:
    """The double integrator ẍ = u + noise from rest at distance 1, brought to the origin.

    The policy starts by doing nothing. Its gain is piecewise constant in time, on ten equal
    pieces, so that it can come close to the optimum, which is not constant.
    """
    exact = LQProblem(
        A=[[0.0, 1.0], [0.0, 0.0]],
        B=[[0.0], [1.0]],
        Q=[[1.0, 0.0], [0.0, 0.1]],
        R=[[problem.control_cost]],
        G=[[1.0, 0.0], [0.0, 0.1]],
        volatility=[[0.1, 0.0], [0.0, problem.volatility]],
        horizon=problem.horizon,
        initial_mean=[1.0, 0.0],
        initial_covariance=0.25,
    )
    control = exact.problem(torch.float32, device)
    mean = GainSchedule(problem.horizon).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        residual = VectorResidual(2, problem.horizon, config.critic.width).to(device)

    def guess(t: Time, x: State, context: Context, action: Tensor | None = None) -> Scalar:
        return control.reward.terminal(x, context)

    optimum = exact.optimal_return()
    start = exact.expected_return(mean.law())

    def evaluate(policy: MeanFunction, progress: Callable[[int, int], None]) -> list[Row]:
        assert isinstance(policy, GainSchedule)
        value = exact.expected_return(policy.law())
        regret = optimum - value
        progress(1, 1)
        return [
            Row(
                {"policy": "mean action, in continuous time"},
                {
                    "expected return": (value, None),
                    "regret": (regret, None),
                    "regret/initial": (regret / (optimum - start), None),
                },
            )
        ]

    def facts(progress: Callable[[int, int], None]) -> Facts:
        progress(1, 1)
        return Facts(
            numbers={"optimum": (optimum, None), "initial_return": (start, None)},
            texts={
                "optimum": "expected return of the optimal policy, exact (Riccati equation)",
                "initial_return": "expected return of the policy that does nothing, exact",
            },
        )

    return Setting(
        problem=control,
        mean=mean,
        value=PinnedValue(
            guess,
            residual,
            link_for(config.critic, problem.horizon, None),
            derivative=config.critic.derivative,
        ),
        solver=EulerMaruyama(),
        evaluate=evaluate,
        facts=facts,
    )


class GainSchedule(nn.Module):
    """−K(t) x + k(t), piecewise constant on equal pieces of [0, horizon]; 0 at the start."""

    def __init__(self, horizon: float) -> None:
        super().__init__()
        times = torch.linspace(0, horizon, PIECES + 1, dtype=torch.float64).tolist()
        zero = torch.zeros(PIECES, 1, 2).tolist()
        self.linear = LinearGaussianPolicy(zero, times=times, dtype=torch.float32)

    def forward(self, t: Time, x: State, context: Context) -> Tensor:
        return self.linear.dist(t, x, context).mean

    def law(self) -> LinearGaussianLaw:
        """For the exact formulas: the mean action, without exploration."""
        return self.linear.law()


class VectorResidual(nn.Module):
    """F(t, x) for vectors: xᵀM(t)x + m(t)·x + c(t), all from a perceptron of time; 0 at first.

    Args:
        states: length of x.
        horizon: scale of time.
        width: hidden units.
    """

    def __init__(self, states: int, horizon: float, width: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.states = states
        outputs = states * states + states + 1
        self.body = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        d = self.states
        coefficients = self.head(self.body((t / self.horizon)[:, None]))
        quadratic, linear, constant = coefficients.split([d * d, d, 1], 1)
        form = torch.einsum("bi,bij,bj->b", x, quadratic.reshape(-1, d, d), x)
        return form + (linear * x).sum(1) + constant[:, 0]
