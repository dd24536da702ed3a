"""torchsde's schemes on dynamics of ours, and ours against theirs step by step."""

from itertools import pairwise

import pytest
import torch
import torchsde
from torch import Tensor
from torchsde import BrownianInterval

import ctcontrol as ct
from tests.helpers import assert_close, normal
from tests.problems import Isotropic, constant
from tests.tables import plant
from tests.tables.dynamics import Geometric

F64 = torch.float64
GRID = ct.TimeGrid.uniform(1.0, 8)  # whose nodes are floats: torchsde adds up its steps
ITO = ["euler", "milstein", "srk"]
STRATONOVICH = ["euler_heun", "heun", "midpoint", "log_ode", "milstein", "reversible_heun"]
POLICY = ct.GaussianPolicy(lambda t, x, c: x[:, :2].sin() + t[:, None])


def _dense() -> ct.ClosedLoopSDE:
    return ct.closed_loop(plant().problem().sde, POLICY)


def _diagonal() -> ct.ClosedLoopSDE:
    sde = Isotropic(constant(-1.5), constant(1.0), lambda t: 0.5 + t)
    return ct.closed_loop(sde, ct.GaussianPolicy(lambda t, x, c: x.sin()))


@pytest.mark.parametrize(
    ("method", "stratonovich"),
    [*((m, False) for m in ITO), *((m, True) for m in STRATONOVICH)],
)
@pytest.mark.parametrize("dense", [True, False])
def test_every_method_of_torchsde_runs(method: str, stratonovich: bool, dense: bool) -> None:
    """And ends where fine Euler steps on the same Brownian motion end."""
    sde, x = _dense() if dense else _diagonal(), normal(50, 3)
    system = ct.TorchsdeSystem(sde, x, stratonovich=stratonovich)
    assert system.noise_type == ("additive" if dense else "diagonal")
    ends = system.integrate(x, GRID, seed=3, method=method, steps=10)
    assert ends.shape == (9, 50, 3)
    fine = system.integrate(x, GRID, seed=3, method=method, steps=10)
    assert_close(ends, fine, 0.0)  # the seed decides
    spread = ends[-1].std(0)
    other = ct.TorchsdeSystem(sde, x).integrate(x, GRID, seed=3, method="euler", steps=10)[-1]
    assert bool(((spread / other.std(0)).log().abs() < 0.7).all())


def _march(scheme: ct.Scheme, sde: ct.ControlledSDE, x: Tensor, path: BrownianInterval) -> Tensor:
    """Eight steps on torchsde's Brownian motion; its U = ∫(W_s − W_{t0})ds."""
    for begin, end in pairwise(GRID.times):
        t0, t1, h = begin.expand(len(x)), end.expand(len(x)), end - begin
        both = path(begin, end, return_U=True)
        assert isinstance(both, tuple)
        W, Z = both[:2]
        assert isinstance(Z, Tensor)
        dw = torch.stack([W, 3**0.5 * (2 * Z / h - W)], 1) if isinstance(scheme, ct.SRA1) else W
        x = scheme.step(sde, t0, t1, x, x, dw, None)
    return x


@pytest.mark.parametrize(
    ("scheme", "method", "stratonovich"),
    [
        (ct.EulerMaruyama(), "euler", False),
        (ct.Heun(), "heun", True),
        (ct.SRA1(), "srk", False),
    ],
    ids=str,
)
def test_our_schemes_take_the_steps_of_torchsde(
    scheme: ct.Scheme, method: str, stratonovich: bool
) -> None:
    sde, x = _dense(), normal(7, 3)
    path = BrownianInterval(
        0.0, 1.0, size=(7, 3), dtype=F64, entropy=5, levy_area_approximation="space-time"
    )
    system = ct.TorchsdeSystem(sde, x, stratonovich=stratonovich)
    theirs = torchsde.sdeint(system, x, GRID.times, bm=path, method=method, dt=0.125)
    assert isinstance(theirs, Tensor)
    assert_close(_march(scheme, sde, x, path), theirs[-1].detach(), 1e-11)


def test_single_precision_times_are_refused() -> None:
    x = normal(2, 3, dtype=torch.float32)
    sde = ct.closed_loop(plant().problem(torch.float32).sde, POLICY)
    system = ct.TorchsdeSystem(sde, x)
    with pytest.raises(ct.CtcontrolError, match=r"float32 times.*give ts.double\(\)"):
        torchsde.sdeint(system, x, GRID.times.float(), dt=0.125, method="euler")
    assert system.integrate(x, GRID, seed=1).dtype == torch.float32


def test_times_off_the_steps_are_refused() -> None:
    """torchsde interpolates there: W at the middle of a step has variance ¼, not ½."""
    x = torch.zeros(4000, 1, dtype=F64)
    sde = ct.closed_loop(
        Isotropic(constant(0.0), constant(0.0), constant(1.0)),
        ct.GaussianPolicy(lambda t, x, c: x),
    )
    system = ct.TorchsdeSystem(sde, x)
    uneven = ct.TimeGrid.from_times([0.0, 0.3, 1.0])
    with pytest.raises(ct.CtcontrolError, match=r"intervals run from 0.3 to 0.7; use TimeGrid"):
        system.integrate(x, uneven, seed=1)
    times = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    wrong = torchsde.sdeint(system, x, times, dt=1.0, method="euler")[1].var()
    right = system.integrate(x, ct.TimeGrid(times), seed=1)[1].var()
    assert abs(float(wrong) - 0.25) < 5 * 0.25 * (2 / 4000) ** 0.5
    assert abs(float(right) - 0.5) < 5 * 0.5 * (2 / 4000) ** 0.5


def test_what_torchsde_cannot_take_is_refused() -> None:
    x, loop = torch.ones(3, 1, dtype=F64), _diagonal()
    with pytest.raises(ct.CtcontrolError, match=r"give closed_loop\(sde, policy\)"):
        ct.TorchsdeSystem(Geometric(), x)  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(ct.CtcontrolError, match=r"vectors, \(batch, d\), got \(3, 1, 1\)"):
        ct.TorchsdeSystem(loop, x[:, None])
    multiplicative = ct.closed_loop(Geometric(), ct.GaussianPolicy(lambda t, x, c: x))
    assert ct.TorchsdeSystem(multiplicative, x).noise_type == "diagonal"
    with pytest.raises(ct.CtcontrolError, match="their noise depends on the state"):
        ct.TorchsdeSystem(multiplicative, x, stratonovich=True)


def test_exploration_averages_out_only_where_the_drift_is_affine() -> None:
    class Saturated(ct.UncontrolledVolatilitySDE):
        def drift(self, t: ct.Time, x: ct.State, a: ct.Action, context: ct.Context) -> ct.State:
            return a.tanh()

        def volatility(self, t: ct.Time, x: ct.State, a: ct.Action | None = None) -> ct.Volatility:
            return ct.ScalarVolatility(torch.ones_like(t))

    t, x = torch.zeros(2, dtype=F64), normal(2, 1)
    exploring = ct.GaussianPolicy(lambda t, x, c: -x, 0.3)
    with pytest.raises(ct.CtcontrolError, match=r"std up to 0.3.*use a policy with std = 0"):
        ct.closed_loop(Saturated(), exploring).drift(t, x, x, None)
    sure = ct.closed_loop(Saturated(), ct.GaussianPolicy(lambda t, x, c: -x))
    assert_close(sure.drift(t, x, 9 * x, None), (-x).tanh())
    affine = ct.closed_loop(Geometric(), exploring)
    assert_close(affine.drift(t, x, 9 * x, None), 0.3 * x - x)
