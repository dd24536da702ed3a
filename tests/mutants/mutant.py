"""A line of the source, made wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A line of the source, made wrong.

    Attributes:
        mistake: what the wrong line means.
        file: from the root.
        old: text that occurs exactly once in it.
        new: what replaces it.
        tests: files, folders or single tests of which one must fail.
    """

    mistake: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def of(mistake: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A mutant, in one call."""
    return Mutant(mistake, file, old, new, tests)
