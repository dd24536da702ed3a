"""Collectives: what several processes share. make() -> a collective that needs no other process."""

from torch import distributed as dist

import ctcontrol as ct
from ctcontrol_diffusion.processes import Processes
from tests.tables._row import row


def _one_of_one() -> Processes:
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return Processes()


COLLECTIVES = [row("Alone", ct.Alone, ct.Alone), row("Processes", Processes, _one_of_one)]
