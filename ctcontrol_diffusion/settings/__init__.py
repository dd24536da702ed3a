"""Each setting is a function from a config to a `Setting`."""

import torch

from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.settings._base import Facts as Facts
from ctcontrol_diffusion.settings._base import Pictures as Pictures
from ctcontrol_diffusion.settings._base import Row as Row
from ctcontrol_diffusion.settings._base import Setting as Setting


def setting_for(config: c.Config, device: torch.device, generator: torch.Generator) -> Setting:
    """The setting of `config.problem`; networks start from `generator`."""
    match config.problem:
        case c.Digits():
            from ctcontrol_diffusion.settings.digits import digits

            return digits(config.problem, config, device, generator)
        case c.Cifar10():
            from ctcontrol_diffusion.settings.cifar10 import cifar10

            return cifar10(config.problem, config, device, generator)
        case c.StableDiffusion():
            from ctcontrol_diffusion.settings.stable_diffusion import stable_diffusion

            return stable_diffusion(config.problem, config, device, generator)
        case c.LQ():
            from ctcontrol_diffusion.settings.lq import lq

            return lq(config.problem, config, device, generator)
