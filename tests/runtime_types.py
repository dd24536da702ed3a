"""Run presets with every shape and type of a signature checked at every call.

`python -m tests.runtime_types PRESET …` makes one iteration of each. It is a program of its own
because the checks are compiled into the packages while they are imported.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException
from jaxtyping import TypeCheckError, install_import_hook

OTHERS = ("torch._dynamo", "diffusers.models.unets.unet_2d", "sklearn.datasets")
"""What is imported before the checks: inside their hook no compiled file of it would be found."""

_beartype: Callable[[Any], Any] = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(thing: Any) -> Any:
    """Beartype, with int for float, where it can read the hints."""
    try:
        return _beartype(thing)
    except BeartypeDecorHintException:  # a protocol that cannot be checked at run time
        return thing


def main(name: str) -> None:
    """One iteration of a small version of the preset."""
    from ctcontrol_diffusion.build import build
    from ctcontrol_diffusion.presets import PRESETS

    config = PRESETS[name]
    rollout = replace(config.rollout, batch=20, steps=5)
    experiment = build(replace(config, rollout=rollout, iterations=1, threads=1))
    iteration = next(experiment.iterations())
    states, times = iteration.trajectory.final, iteration.trajectory.times(0)
    try:  # are the checks in force?
        experiment.setting.problem.sde.volatility(times[1:], states, states)
    except TypeCheckError:
        print(f"{name}: every call had the types and shapes of its signature")
    else:
        sys.exit("a time too few went unnoticed; the checks are not in force")


if __name__ == "__main__":
    for other in OTHERS:
        import_module(other)
    with install_import_hook(["ctcontrol", "ctcontrol_diffusion"], "__main__.check"):
        for name in sys.argv[1:]:
            main(name)
