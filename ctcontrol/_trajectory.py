"""What a rollout leaves behind, time-major, and the flat rows that losses use."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import check_count, check_share
from ctcontrol._division import WHOLE, Division
from ctcontrol._gaussian import Gaussian
from ctcontrol._tensor import rows_of
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Context, Scalar, State


@dataclass(frozen=True, eq=False)
class Outcome:
    """What steps led to, as rows.

    Attributes:
        x: (rows, *state), the state at t1.
        innovation: (rows, *state), x less its mean given the state at t0.
        gain: (rows,), what the step added to the return.
        shrink: (rows,), e^{−ρ(t1 − t0)}.
        terminal: (rows,), h(x) where the step ends its path, else NaN.
    """

    x: Tensor
    innovation: Tensor
    gain: Tensor
    shrink: Tensor
    terminal: Tensor

    def __getitem__(self, rows: Tensor) -> "Outcome":
        """The selected rows, as a new value."""
        return Outcome(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Transitions:
    """Steps of many paths as rows; every tensor has the same leading length.

    Attributes:
        t0, t1: (rows,), the interval of the step.
        weight: (rows,), e^{−ρ t0}: the discount of the step.
        x: (rows, *state), the state at t0.
        action: (rows, *action).
        law: the Gaussian the action was drawn from.
        anchor: (rows, *action) or None, what the regularizer recorded.
        context: selected with the rows.
        notes: (rows, …) or None, what the policy's network found besides the action.
        signal: what the algorithm made of the rollout for this row (advantage rate, gradient).
        target: (rows,) or None, what the critic regresses on.
        outcome: where the steps led, or None where it was not asked for.
        steps: steps per path, so that a mean over rows times `steps` is a mean over paths.
        division: how many rows go through a network at once, and on which process.
    """

    t0: Tensor
    t1: Tensor
    weight: Tensor
    x: Tensor
    action: Tensor
    law: Gaussian
    anchor: Tensor | None
    context: Context
    steps: int
    signal: Tensor | None = None
    target: Tensor | None = None
    outcome: Outcome | None = None
    division: Division = WHOLE
    notes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.t0)

    def __getitem__(self, rows: Tensor) -> "Transitions":
        """The selected rows, as a new value."""
        chosen = {
            f.name: rows_of(getattr(self, f.name), rows)
            for f in fields(self)
            if f.name not in ("law", "steps", "division")
        }
        law = Gaussian(self.law.mean[rows], self.law.std[rows])
        return replace(self, law=law, **chosen)

    def over(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """function(indices of rows (n,)) -> (n, …), a part of the rows at a time, (rows, …)."""
        return self.division.over(function, len(self), self.t0.device)

    def minibatches(
        self, size: int, generator: torch.Generator, *, share: float = 1.0
    ) -> Iterator["Transitions"]:
        """Rows in random order, `size` at a time; only a random `share` of them if below 1.

        A last incomplete batch is dropped if at least one whole batch was made.
        """
        check_count("minibatch", size)
        count = max(1, round(check_share("share", share) * len(self)))
        order = torch.randperm(len(self), generator=generator, device=generator.device)
        order = order[:count].to(self.t0.device)
        whole = max(size, count - count % size)
        for start in range(0, min(count, whole), size):
            yield self[order[start : start + size]]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A batch of paths on a grid.

    Attributes:
        grid: the nodes t_0 … t_N.
        states: (steps + 1, batch, *state).
        actions: (steps, batch, *action), as drawn.
        means: (steps, batch, *action), the policy's mean action.
        stds: (steps, batch) or (steps, batch, *action).
        innovations: (steps, batch, *state), X_{k+1} − E[X_{k+1} | X_k]; a martingale difference.
        rewards: (steps, batch), r per unit of time, without the regularizer.
        penalties: (steps, batch), the regularizer's amount over each step, without its weight.
        anchors: (steps, batch, …) or None, what the regularizer recorded.
        terminal: (batch,), h(X_T).
        context: one entry a path.
        discount: ρ of the problem.
        penalty_weight: w of the problem.
        division: of its rows, wherever something is evaluated along it.
        notes: (steps, batch, …) or None, what the policy's network found besides the action while
            it acted (`NotingMean`).
    """

    grid: TimeGrid
    states: Float[Tensor, "nodes batch *state"]
    actions: Float[Tensor, "steps batch *action"]
    means: Float[Tensor, "steps batch *action"]
    stds: Tensor
    innovations: Float[Tensor, "steps batch *state"]
    rewards: Float[Tensor, "steps batch"]
    penalties: Float[Tensor, "steps batch"]
    anchors: Tensor | None
    terminal: Scalar
    context: Context
    discount: float
    penalty_weight: float
    division: Division = WHOLE
    notes: Tensor | None = None

    @property
    def steps(self) -> int:
        """Steps per path."""
        return len(self.rewards)

    @property
    def batch(self) -> int:
        """Number of paths."""
        return self.rewards.shape[1]

    @property
    def final(self) -> State:
        """X_T, (batch, *state)."""
        return self.states[-1]

    def times(self, node: int) -> Tensor:
        """t_node for every path, (batch,), in the dtype of the states."""
        time = self.grid.times[node].to(self.states)
        return time.expand(self.batch)

    @property
    def lengths(self) -> Tensor:
        """Δ_k as (steps, 1), in the dtype of the states."""
        return self.grid.lengths.to(self.rewards)[:, None]

    @property
    def gains(self) -> Tensor:
        """r_k Δ_k − w · amount_k, (steps, batch): what each step adds to the return."""
        return self.rewards * self.lengths - self.penalty_weight * self.penalties

    def return_to_go(self) -> Tensor:
        """G_k = Σ_{j≥k} e^{−ρ(t_j − t_k)} gain_j + e^{−ρ(T − t_k)} h, shape (steps, batch)."""
        return discounted_to_go(self.gains, self.terminal, self.grid, self.discount)

    def returns(self) -> Tensor:
        """The return of each path, (batch,); its mean estimates J."""
        return self.return_to_go()[0]

    def divergence(self) -> Tensor:
        """Σ_k amount_k of each path, (batch,): for `PathKL` the path KL in nats, undiscounted."""
        return self.penalties.sum(0)

    def transitions(
        self,
        *,
        signal: Tensor | None = None,
        target: Tensor | None = None,
        outcome: bool = False,
    ) -> Transitions:
        """All steps of all paths as flat rows; `signal` and `target` are (steps, batch, …).

        With `outcome` the rows know where their step led.
        """
        path = torch.arange(self.batch, device=self.rewards.device).repeat(self.steps)
        nodes = self.grid.times.to(self.rewards).repeat_interleave(self.batch)
        t0, t1 = nodes[: -self.batch], nodes[self.batch :]

        def flat(x: Tensor) -> Tensor:
            return x.flatten(0, 1)

        return Transitions(
            t0=t0,
            t1=t1,
            weight=(-self.discount * t0).exp(),
            x=flat(self.states[:-1]),
            action=flat(self.actions),
            law=Gaussian(flat(self.means), flat(self.stds)),
            anchor=None if self.anchors is None else flat(self.anchors),
            context=rows_of(self.context, path),
            steps=self.steps,
            signal=None if signal is None else flat(signal),
            target=None if target is None else flat(target),
            outcome=self._outcome() if outcome else None,
            division=self.division,
            notes=None if self.notes is None else flat(self.notes),
        )

    def _outcome(self) -> Outcome:
        terminal = torch.full_like(self.rewards, torch.nan)
        terminal[-1] = self.terminal
        return Outcome(
            x=self.states[1:].flatten(0, 1),
            innovation=self.innovations.flatten(0, 1),
            gain=self.gains.flatten(),
            shrink=(-self.discount * self.lengths).exp().expand_as(self.rewards).flatten(),
            terminal=terminal.flatten(),
        )


def discounted_to_go(
    increments: Tensor, last: Tensor | float, grid: TimeGrid, discount: float
) -> Tensor:
    """S_k = Σ_{j≥k} e^{−ρ(t_j − t_k)} increments_j + e^{−ρ(T − t_k)} last, (steps, batch)."""
    # Backward, step by step: dividing by e^{−ρ t_k} instead would overflow over long horizons.
    shrink = (-discount * grid.lengths).exp().tolist()
    out = torch.empty_like(increments)
    tail = torch.as_tensor(last).to(increments)
    for k in reversed(range(len(out))):
        tail = out[k] = increments[k] + shrink[k] * tail
    return out
