"""Many policies as one: rows of a rollout, each of its own member."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ctcontrol._checks import CtcontrolError, check_kind
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Feedback, Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._typing import Context, InitialLaw, State, Time
from ctcontrol.solvers import Scheme

OWN = frozenset(vars(nn.Module()))
"""What every module has, besides what a user gives it."""
SUBSTITUTING = Lock()
"""`functional_call` writes into the module for as long as it runs, whatever thread looks at it."""


class _Method(nn.Module):
    """The methods of a module as a module, which is what `functional_call` takes."""

    def __init__(self, owner: Policy) -> None:
        super().__init__()
        self.owner = owner

    def forward(self, name: str, *arguments: object) -> object:
        return getattr(self.owner, name)(*arguments)


class SubstitutedPolicy(Policy):
    """A policy with other tensors in place of its parameters; it has none of its own.

    The tensors may carry tangents or gradients of whatever they were made from.

    Args:
        policy: whose law is asked for; not changed.
        tensors: by the names of `policy.named_parameters()`.
    """

    def __init__(self, policy: Policy, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.absorbs_noise = policy.absorbs_noise
        self._method = (_Method(policy),)  # in a tuple: its parameters are not ours
        self._tensors = {f"owner.{name}": tensor for name, tensor in tensors.items()}

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        return functional_call(self._method[0], self._tensors, ("dist", t, x, context))

    def feedback(self, times: Sequence[float]) -> list[Feedback] | None:
        return functional_call(self._method[0], self._tensors, ("feedback", times))

    def check_solver(self, solver: Scheme) -> None:
        self._method[0].owner.check_solver(solver)


class PolicyEnsemble(Policy):
    """M policies of one architecture, evaluated together; each row belongs to one of them.

    The context of a row is the number of its member, 0 … M − 1, which is what the paths of
    `ensemble.problem(problem)` carry. So M seeds or M policies are one rollout, or one run of
    `improve`. What is saved is the overhead of a step: much where returns are wanted of few paths
    a member, nothing where arithmetic dominates (networks, or training, at 10³ paths a member on
    a CPU). Linear feedback that never explores is no slower one by one, as one affine map.

    Parameters have a leading axis M; a loss that is a mean over all paths has 1/M of each member's
    own gradient, which Adam does not see. What mixes paths mixes members, though: give the updater
    a `clip_norm` that never bites, do not standardize over the batch, and train critics apart.

    Args:
        policies: alike in everything but the values of parameters and buffers; copied.

    Raises:
        CtcontrolError: none at all, policies that are not alike, or that absorb noise; at
            evaluation, rows without the number of their member.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        super().__init__()
        if not policies:
            raise CtcontrolError("an ensemble needs at least one policy, got none")
        for policy in policies:
            check_kind("a member", policy, Policy, "pass a list of policies")
            _check_alike(policies[0], policy)
        self.size = len(policies)
        self.member = copy.deepcopy(policies[0])
        states = [_tensors(policy) for policy in policies]
        for name, tensor in _tensors(self.member).items():
            tensor.data = torch.stack([state[name].detach() for state in states])

    def problem(self, problem: ControlProblem) -> ControlProblem:
        """The same problem, of whose paths each member gets an equal share, in blocks.

        The context of a rollout says whose path it was, for example
        `rollout.returns[rollout.context == j]`.
        """
        return replace(problem, initial=_Shared(problem.initial, self.size))

    def policies(self) -> list[Policy]:
        """The members as they now are, as policies of their own."""
        out = [copy.deepcopy(self.member) for _ in range(self.size)]
        for j, policy in enumerate(out):
            for tensor in _tensors(policy).values():
                tensor.data = tensor.data[j].clone()
        return out

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        rows = _Rows.of(self._members(x, context), self.size)
        t, x = rows.deal(t), rows.deal(x)
        found = self.member.stacked(t, x)
        mean, std = self._mapped(t, x) if found is None else (found.mean, found.std)
        return Gaussian(rows.collect(mean), rows.collect(std))

    def _mapped(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of all members, whatever they are."""
        method = _Method(self.member)
        names = [f"owner.{name}" for name in _tensors(self.member)]

        def law(t: Time, x: State, *values: Tensor) -> tuple[Tensor, Tensor]:
            tensors = dict(zip(names, values, strict=True))
            found = functional_call(method, tensors, ("dist", t, x, None))
            return found.mean, found.std

        with SUBSTITUTING:
            return vmap(law)(t, x, *_tensors(self.member).values())

    def _members(self, x: State, context: Context) -> Tensor:
        if context is None and self.size == 1:
            return torch.zeros(len(x), dtype=torch.long, device=x.device)
        if not isinstance(context, Tensor) or context.shape != (len(x),):
            raise CtcontrolError(
                "the rows do not say which member of the ensemble they belong to; simulate "
                "ensemble.problem(problem), whose paths do"
            )
        return context


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a batch dealt to the members.

    Attributes:
        size: number of members M.
        dealt: (M, most), which rows a member gets, one of them repeatedly if they are few; None if
            the batch is in M equal blocks already.
        place: (batch,), where in the flattened deal a row is found again.
    """

    size: int
    dealt: Tensor | None
    place: Tensor | None

    @classmethod
    def of(cls, members: Tensor, size: int) -> "_Rows":
        if len(members) % size == 0 and torch.equal(
            members, _blocks(len(members), size, members.device)
        ):
            return cls(size, None, None)
        order, counts = members.argsort(stable=True), members.bincount(minlength=size)
        starts, most = counts.cumsum(0) - counts, int(counts.max())
        slots = torch.arange(most, device=members.device)
        last = (counts - 1).clamp(min=0)[:, None]
        dealt = order[(starts[:, None] + torch.minimum(slots, last)).clamp(max=len(order) - 1)]
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=members.device) - starts[members[order]]
        return cls(size, dealt, members * most + rank)

    def deal(self, v: Tensor) -> Tensor:
        """(batch, …) -> (M, most, …)."""
        return v.unflatten(0, (self.size, -1)) if self.dealt is None else v[self.dealt]

    def collect(self, v: Tensor) -> Tensor:
        """The inverse."""
        return v.flatten(0, 1) if self.place is None else v.flatten(0, 1)[self.place]


@dataclass(frozen=True, eq=False)
class _Shared:
    """An initial law whose paths know their member."""

    initial: InitialLaw
    size: int

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, context = self.initial(batch, generator)
        if context is not None:
            raise CtcontrolError(
                "the members of an ensemble are told apart by the context, and this problem has "
                "one already; give it as a part of the state"
            )
        return x, _blocks(batch, self.size, x.device)


@lru_cache(maxsize=8)
def _blocks(rows: int, size: int, device: torch.device) -> Tensor:
    """Who gets which row, in blocks that differ by one row at most."""
    return torch.arange(rows, device=device) * size // rows


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _check_alike(first: Policy, other: Policy) -> None:
    """Raise `CtcontrolError` unless two policies differ in the values of tensors alone."""
    if first.absorbs_noise:
        raise CtcontrolError(
            f"{type(first).__name__} absorbs the noise of a grid, which an ensemble cannot; "
            "take GaussianPolicy"
        )
    mine, its = dict(first.named_modules()), dict(other.named_modules())
    shapes = [
        {name: (v.shape, v.dtype, v.device) for name, v in _tensors(policy).items()}
        for policy in (first, other)
    ]
    if mine.keys() != its.keys() or shapes[0] != shapes[1]:
        raise CtcontrolError(
            "the policies of an ensemble must have parameters of the same names, shapes and "
            "dtypes; make them by one function"
        )
    for name, module in mine.items():
        a, b = (_settings(m) for m in (module, its[name]))
        different = sorted(k for k in a.keys() | b.keys() if not _same(a.get(k), b.get(k)))
        if type(module) is not type(its[name]) or different:
            raise CtcontrolError(
                f"the policies of an ensemble differ in {', '.join(different) or 'their type'} of "
                f"{type(module).__name__}, but only parameters and buffers may; make it one of "
                "those, or simulate the policies one by one"
            )


def _settings(module: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name not in OWN}


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return a is b or bool(a == b)
