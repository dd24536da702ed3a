"""Training samplers by their names in a config."""

from ctcontrol import CtcontrolError, EulerMaruyama, Solver
from ctcontrol_diffusion.config import Sampler
from ctcontrol_diffusion.schedule import FlowSchedule, Schedule
from ctcontrol_diffusion.solvers import DDIM, ExponentialVP, FlowSDE


def sampler_for(name: Sampler, eta: float, data_variance: float, schedule: Schedule) -> Solver:
    """The solver called `name`, for a model with this schedule.

    Raises:
        CtcontrolError: it does not go with the schedule, or has a fixed share of noise.
    """
    flow = isinstance(schedule, FlowSchedule)
    if name == "flow-sde" and not flow:
        raise CtcontrolError(
            "--problem.sampler flow-sde is for flow-matching models, and this one is not; take "
            "ddim, euler or exponential"
        )
    if eta != 1 and (name == "exponential" or (name == "euler" and not flow)):
        raise CtcontrolError(
            f"--problem.eta {eta:g} says nothing to the {name} sampler, whose noise is that of the "
            "reverse SDE; leave it at 1, or take the sampler ddim"
        )
    match name:
        case "ddim":
            return DDIM(eta)
        case "exponential":
            return ExponentialVP(data_variance)
        case "flow-sde":
            return FlowSDE(eta)
        case "euler":
            return FlowSDE(eta) if flow else EulerMaruyama()
