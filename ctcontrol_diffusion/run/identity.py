"""Whether the networks at hand are those that a run started from."""

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.run.directory import RunDirectory
from ctcontrol_diffusion.run.tensors import fingerprint


def fingerprint_of(experiment: Experiment) -> str:
    """Of the policy's network as it was built, before any checkpoint is loaded."""
    return fingerprint({"policy": experiment.setting.mean})


def check_networks(directory: RunDirectory, experiment: Experiment) -> None:
    """Raise `CtcontrolError` unless `experiment` was built on the run's pretrained weights.

    Checkpoints hold only what is trained, so on other weights they make another model.
    """
    if fingerprint_of(experiment) != directory.weights:
        raise CtcontrolError(
            f"the pretrained weights are not those that {directory.path} started from; bring them "
            "back, or start a new run"
        )
