"""When Ctrl-C stops a run."""

import os
import signal
from contextlib import suppress

import pytest

from ctcontrol_diffusion.run.interrupts import Interrupts


def test_interrupts_outside_of_an_iteration_are_immediate() -> None:
    with Interrupts().installed() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.waiting


def test_an_interrupt_that_other_code_swallowed_is_remembered() -> None:
    """And the next one is the first to be kept, the one after it stops at once."""
    with Interrupts(quiet=True).installed() as interrupts:
        assert not interrupts.waiting
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with interrupts.deferred():
            assert interrupts.waiting
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
