"""Collectives: what several processes share. make() -> a collective that needs no other process."""

import ctcontrol as ct
from tests.tables._row import row

COLLECTIVES = [row("Alone", ct.Alone, ct.Alone)]
