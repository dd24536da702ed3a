"""What many tests share: seeds, error bars, finite differences, and who implements what."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

PACKAGES = ("ctcontrol", "ctcontrol_diffusion")


def seeded(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers that are the same in every run."""
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def assert_mean(samples: Tensor, truth: Tensor | float, *, z: float = 5.0, bias: float = 0) -> None:
    """E samples = truth, entry by entry: |mean − truth| ≤ z · stderr + bias.

    Samples are independent along the first axis.
    """
    values = samples.detach().double()
    stderr = values.std(0) / len(values) ** 0.5
    gap = (values.mean(0) - truth).abs()
    assert bool((gap <= z * stderr + bias).all()), (
        f"mean {values.mean(0)} ± {stderr} is {(gap / stderr).max():.1f} standard errors "
        f"away from {truth} (bias allowed: {bias:g})"
    )


def assert_close(actual: Tensor, expected: Tensor | float, tolerance: float = 1e-10) -> None:
    """Equal to `tolerance`, relative for large numbers and absolute for small ones."""
    truth = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, truth.expand_as(actual), rtol=tolerance, atol=tolerance)


def slope(sizes: Iterable[float], errors: Iterable[float]) -> float:
    """The order of convergence: the slope of log error against log size."""
    x = torch.tensor(list(sizes), dtype=torch.float64).log()
    y = torch.tensor([abs(e) for e in errors], dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def numerical_gradient(f: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    """∂f/∂x row by row by central differences; f maps (batch, *event) to (batch,)."""
    rows = x.reshape(len(x), -1)
    columns = []
    for i in range(rows.shape[1]):
        shift = torch.zeros_like(rows)
        shift[:, i] = step
        up, down = (f((rows + s).reshape(x.shape)) for s in (shift, -shift))
        columns.append((up - down) / (2 * step))
    return torch.stack(columns, 1).reshape(x.shape)


@cache
def modules() -> tuple[ModuleType, ...]:
    """Every module of both packages, imported."""
    found = []
    for package in map(importlib.import_module, PACKAGES):
        found.append(package)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                found.append(importlib.import_module(module.name))
    return tuple(found)


def implementations(interface: type) -> set[type]:
    """Every concrete class of both packages with this base, or of this protocol's shape."""
    classes = {
        thing
        for module in modules()
        for thing in vars(module).values()
        if inspect.isclass(thing) and thing.__module__ == module.__name__
    }
    if getattr(interface, "_is_protocol", False):
        return {c for c in classes if c is not interface and _has_shape(c, interface)}
    return {c for c in classes if issubclass(c, interface) and not inspect.isabstract(c)}


def _has_shape(candidate: type, protocol: type) -> bool:
    """Whether a class has the members of a protocol, with the same parameters."""
    if getattr(candidate, "_is_protocol", False):
        return False
    for name, member in vars(protocol).items():
        if isinstance(member, property):
            if not hasattr(candidate, name):
                return False
        elif inspect.isfunction(member) and (name == "__call__" or not name.startswith("_")):
            mine = getattr(candidate, name, None)
            if not inspect.isfunction(mine) or _parameters(mine) != _parameters(member):
                return False
    return True


def _parameters(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


def assert_covers(interface: type, kinds: Iterable[type]) -> None:
    """A contract is worth something only if every implementation is held to it."""
    missing = implementations(interface) - set(kinds)
    assert not missing, (
        f"no row of tests/tables/ holds {sorted(c.__name__ for c in missing)} to the contract "
        f"of {interface.__name__}; add one"
    )
