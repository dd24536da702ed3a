"""A row of a table, and running a test on every row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class Row:
    """One implementation, ready to be held to its contract."""

    name: str
    kind: type
    make: Callable[..., Any]
    facts: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.facts[name]


def row(name: str, kind: type, make: Callable[..., Any], **facts: Any) -> Row:
    """A row with whatever else its contract asks for."""
    return Row(name, kind, make, facts)


def over(rows: list[Row]) -> pytest.MarkDecorator:
    """Run a test on every row of a table, as its argument `case`."""
    return pytest.mark.parametrize("case", rows, ids=[r.name for r in rows])


def kinds(rows: list[Row]) -> set[type]:
    """The implementations in a table."""
    return {r.kind for r in rows}
