"""All schemes of torchsde, for dynamics whose feedback is in the drift."""

from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol._checks import CtcontrolError, check_count
from ctcontrol._sde import AdditiveNoiseSDE, ClosedLoopSDE, of_kind
from ctcontrol._tensor import fill
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Context, State
from ctcontrol._volatility import DenseVolatility

LEVY_AREAS = {"srk": "space-time", "log_ode": "foster"}
"""What the methods of torchsde ask of a Brownian motion besides its increments."""


class TorchsdeSystem(nn.Module):
    """`closed_loop(sde, policy)` in the form that torchsde takes: f, g, noise_type, sde_type.

    `torchsde.sdeint(system, x0, ts, method=…, dt=…)` works with every method of torchsde, but has
    two traps, which `integrate` avoids: on float32 times it adds a last step of rounding length
    and rebuilds its Brownian tree for it (the system refuses such times); and states at times off
    the steps are interpolated linearly, with too little variance.

    Args:
        sde: dynamics with the policy inside; states are vectors, (batch, d).
        x: (batch, d), example states: they tell how the volatility is stored.
        context: of the paths.
        stratonovich: present the equation as Stratonovich's, for the methods that want that;
            the same equation, so only for additive noise.

    Raises:
        CtcontrolError: dynamics that need an action, states that are not vectors, or
            `stratonovich` for noise that is not additive.
    """

    def __init__(
        self, sde: ClosedLoopSDE, x: State, *, context: Context = None, stratonovich: bool = False
    ) -> None:
        super().__init__()
        remedy = "torchsde knows no actions; give closed_loop(sde, policy)"
        self.sde = of_kind(sde, ClosedLoopSDE, "TorchsdeSystem", remedy)
        if x.ndim != 2:
            raise CtcontrolError(
                f"torchsde takes states that are vectors, (batch, d), got {tuple(x.shape)}; flatten"
                " the dynamics"
            )
        self.context = context
        additive = isinstance(sde, AdditiveNoiseSDE)
        if stratonovich and not additive:
            raise CtcontrolError(
                "as a Stratonovich equation these dynamics would be others, because their noise "
                "depends on the state; use a method for Itô equations: euler, milstein or srk"
            )
        self.sde_type = "stratonovich" if stratonovich else "ito"
        dense = isinstance(sde.volatility(fill(0.0, x), x), DenseVolatility)
        self.noise_type = ("additive" if additive else "general") if dense else "diagonal"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        """Drift, (batch, d)."""
        if t.dtype != torch.float64:
            raise CtcontrolError(
                f"torchsde was given {t.dtype} times, on which it takes an extra step of rounding "
                "length and runs up to 60 times slower; give ts.double()"
            )
        now = fill(t.to(y), y)
        return self.sde.drift(now, y, y, self.context)  # the action does not count

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        """Volatility: (batch, d) where it is diagonal, else (batch, d, k)."""
        volatility = self.sde.volatility(fill(t.to(y), y), y)
        if isinstance(volatility, DenseVolatility):
            return volatility.value.expand(len(y), *volatility.value.shape[-2:])
        return volatility.mul(torch.ones_like(y))

    def integrate(
        self,
        x: State,
        grid: TimeGrid,
        *,
        seed: int,
        method: str = "euler",
        steps: int = 1,
        **options: Any,
    ) -> Tensor:
        """The paths from `x` at the nodes of the grid, (steps + 1, batch, d), by torchsde.sdeint.

        Args:
            x: (batch, d), initial states.
            grid: where states are wanted; its intervals have one length.
            seed: of the Brownian motion.
            method: of torchsde, such as euler, milstein, srk; with `stratonovich` also heun,
                midpoint, euler_heun, log_ode, reversible_heun.
            steps: of the method in every interval of the grid.
            options: for torchsde.sdeint, such as `options`.

        Raises:
            CtcontrolError: intervals of different length, which steps of one length would miss.
        """
        from torchsde import BrownianInterval, sdeint  # pulls in much: only where wanted

        lengths = grid.lengths
        if float(lengths.max() - lengths.min()) > 1e-9 * float(lengths.max()):
            raise CtcontrolError(
                f"torchsde takes steps of one length and interpolates between them, but intervals "
                f"run from {float(lengths.min()):g} to {float(lengths.max()):g}; use TimeGrid."
                "uniform, or simulate with a scheme of ctcontrol, which steps onto every node"
            )
        times, dt = grid.times.to(x.device), float(lengths.mean()) / check_count("steps", steps)
        brownian = BrownianInterval(
            times[0],
            times[-1],
            size=tuple(self.sde.volatility(fill(0.0, x), x).noise_like(x).shape),
            dtype=x.dtype,
            device=x.device,
            entropy=seed,
            dt=dt,
            levy_area_approximation=LEVY_AREAS.get(method, "none"),
        )
        paths = sdeint(self, x, times, bm=brownian, method=method, dt=dt, **options)
        assert isinstance(paths, Tensor)
        return paths
