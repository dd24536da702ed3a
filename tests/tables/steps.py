"""Solvers and schemes."""

import ctcontrol as ct
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import FlowSchedule
from ctcontrol_diffusion.solvers import DDIM, ExponentialNoiseVP, ExponentialVP, FlowSDE
from tests.helpers import normal
from tests.problems import Isotropic, constant
from tests.tables._row import row
from tests.tables.dynamics import cart, integrator, investment, plant, schedule

# --- solvers: make() -> solver; sde; intervals (t0, t1) for rows; event shape; orders ----------

SOLVERS = [
    row(
        "EulerMaruyama/isotropic",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: Isotropic(lambda t: -1 - t, lambda t: 0.5 + t, lambda t: 0.3 + 0.2 * t),
        state=(3,),
        action=(3,),
        absorbs=True,
    ),
    row(
        "EulerMaruyama/dense",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: plant().problem().sde,
        state=(3,),
        action=(2,),
        absorbs=False,
    ),
    row(
        "EulerMaruyama/controlled",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: investment().sde(),
        state=(1,),
        action=(1,),
        absorbs=False,
    ),
    row(
        "EulerMaruyama/reverse",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: ReverseSDE(schedule()),
        state=(2, 2),
        action=(2, 2),
        absorbs=True,
    ),
    *(
        row(
            f"DDIM/{eta:g}",
            DDIM,
            lambda eta=eta: DDIM(eta),
            sde=lambda: ReverseSDE(schedule()),
            state=(2, 2),
            action=(2, 2),
            absorbs=True,
        )
        for eta in (1.0, 0.4)
    ),
    *(
        row(
            f"ExponentialVP/{variance:g}",
            ExponentialVP,
            lambda variance=variance: ExponentialVP(variance),
            sde=lambda: ReverseSDE(schedule()),
            state=(2, 2),
            action=(2, 2),
            absorbs=True,
        )
        for variance in (0.0, 0.7)
    ),
    row(
        "ExponentialNoiseVP",
        ExponentialNoiseVP,
        ExponentialNoiseVP,
        sde=lambda: ReverseSDE(schedule()),
        state=(2, 2),
        action=(2, 2),
        absorbs=True,
    ),
    *(
        row(
            f"{kind.__name__}/flow",
            kind,
            kind,
            sde=lambda: ReverseSDE(FlowSchedule(2.0, 0.02)),
            state=(2, 2),
            action=(2, 2),
            absorbs=True,
        )
        for kind in (DDIM, ExponentialVP, ExponentialNoiseVP)
    ),
    *(
        row(
            f"FlowSDE/{eta:g}",
            FlowSDE,
            lambda eta=eta: FlowSDE(eta),
            sde=lambda: ReverseSDE(FlowSchedule(2.0, 0.02)),
            state=(2, 2),
            action=(2, 2),
            absorbs=True,
        )
        for eta in (1.0, 0.5)
    ),
    row(
        "ExactLinear/dense",
        ct.ExactLinear,
        ct.ExactLinear,
        sde=lambda: plant().problem().sde,
        state=(3,),
        action=(2,),
        absorbs=False,
    ),
    row(
        "ExactLinear/wide",
        ct.ExactLinear,
        ct.ExactLinear,
        sde=lambda: plant(volatility=normal(3, 5, seed=15).numpy()).problem().sde,
        state=(3,),
        action=(2,),
        absorbs=False,
    ),
    row(
        "ExactLinear/one noise for two states",
        ct.ExactLinear,
        ct.ExactLinear,
        sde=lambda: cart().problem().sde,
        state=(2,),
        action=(1,),
        absorbs=False,
    ),
    row(
        "ExactLinear/isotropic",
        ct.ExactLinear,
        ct.ExactLinear,
        sde=lambda: integrator(A=[[-0.4, 0.0], [0.0, -0.4]]).problem().sde,
        state=(2,),
        action=(2,),
        absorbs=True,
    ),
]

# --- schemes whose step has no law in closed form: make() -> scheme; sde; event shapes ----------

SCHEMES = [
    row(name, kind, kind, sde=sde, state=(3,), action=(3,))
    for kind in (ct.Heun, ct.SRA1)
    for name, sde in (
        (
            f"{kind.__name__}/isotropic",
            lambda: Isotropic(lambda t: -1 - t, lambda t: 0.5 + t, lambda t: 0.3 + 0.2 * t),
        ),
        (
            f"{kind.__name__}/closed loop",
            lambda: ct.closed_loop(
                Isotropic(constant(-1.0), constant(0.5), lambda t: 0.3 + 0.2 * t),
                ct.GaussianPolicy(lambda t, x, c: x.sin()),
            ),
        ),
        (
            f"{kind.__name__}/dense",
            lambda: (
                plant(
                    B=[[1, 0, 0], [0, 1, 0], [0, 1, 2]], R=[[1, 0, 0], [0, 1, 0], [0, 0, 1]], S=None
                )
                .problem()
                .sde
            ),
        ),
    )
]
