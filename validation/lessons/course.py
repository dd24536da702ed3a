"""What is to be learned: a problem whose regret is known, and how much may be spent on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from ctcontrol import ControlProblem, CtcontrolError, Estimate, Policy, TimeGrid, Value


@dataclass(frozen=True, eq=False)
class Course:
    """A problem to be learned within `iterations` rollouts of `batch` paths.

    Attributes:
        title: its name in the table.
        problem: what is maximised.
        grid: decision times.
        policy: seed -> a fresh policy, the same for every seed where nothing is drawn.
        value: seed -> a fresh value function.
        slopes: seed -> fresh coefficients of a `RatedValue`.
        regret: policy -> J* − J, without its exploration where the problem has no temperature.
        bound: on the regret at the end, relative to that at the beginning.
        batch, iterations: of the rollouts.
        rates: learning rates of policy and value.
        finer: off policy, the grid has this many times the steps.
        variants: the same question put otherwise: `warm` with a temperature, `moving` with the
            action as a state; or why there is none.
    """

    title: str
    problem: ControlProblem
    grid: TimeGrid
    policy: Callable[[int], Policy]
    value: Callable[[int], Value]
    slopes: Callable[[int], nn.Module]
    regret: Callable[[Policy], Estimate]
    bound: float
    batch: int
    iterations: int
    rates: tuple[float, float]
    finer: int = 1
    variants: dict[str, "Course | str"] = field(default_factory=dict)

    @property
    def path_steps(self) -> int:
        """Steps of paths that are simulated."""
        return self.batch * self.grid.steps * self.iterations

    def variant(self, name: str | None) -> "Course":
        """This course, or a variant; raises `CtcontrolError` with the reason if there is none."""
        if name is None:
            return self
        found = self.variants.get(name, self)
        if isinstance(found, str):
            raise CtcontrolError(found)
        return found
