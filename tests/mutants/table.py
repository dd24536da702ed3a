"""One-line mutations of the source, each a classic mistake, with the tests that must notice."""

from tests.mutants.mutant import Mutant as Mutant
from tests.mutants.simulation import SIMULATION
from tests.mutants.theory import THEORY

MUTANTS = THEORY + SIMULATION
"""Add one with every mistake that was made, or nearly."""
