"""Links by their names in a config."""

from ctcontrol import Constant, CosOneMinusCos, CosSin, Linear, Link, Variance
from ctcontrol_diffusion import config as c


def link_for(critic: c.Critic, horizon: float, variance: Variance | None) -> Link:
    """The link `critic.link`; `variance` where the setting has one."""
    match critic.link:
        case "cos-sin":
            return CosSin(horizon)
        case "const":
            return Constant(horizon)
        case "linear":
            return Linear(horizon)
        case "cos-one-minus-cos":
            return CosOneMinusCos(horizon)
        case "variance":
            return variance or Linear(horizon)
