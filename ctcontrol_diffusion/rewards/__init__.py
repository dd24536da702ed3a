"""Rewards of images: what fine-tuning maximises, built in or your own.

A reward is any callable with the contract of :class:`RewardFunction`,

    fn(images, prompts, metadata) -> (rewards, info)

named by one of :func:`reward_names` or, if it is yours, as ``module:function``.
"""

from ctcontrol_diffusion.rewards._alignment import ClassifierAlignment as ClassifierAlignment
from ctcontrol_diffusion.rewards._checked import CheckedReward as CheckedReward
from ctcontrol_diffusion.rewards._checked import RewardError as RewardError
from ctcontrol_diffusion.rewards._contract import Info as Info
from ctcontrol_diffusion.rewards._contract import Metadata as Metadata
from ctcontrol_diffusion.rewards._contract import RewardFunction as RewardFunction
from ctcontrol_diffusion.rewards._contract import differentiable as differentiable
from ctcontrol_diffusion.rewards._contract import is_differentiable as is_differentiable
from ctcontrol_diffusion.rewards._jpeg import JPEGCompressibility as JPEGCompressibility
from ctcontrol_diffusion.rewards._jpeg import JPEGIncompressibility as JPEGIncompressibility
from ctcontrol_diffusion.rewards._jpeg import jpeg_kilobytes as jpeg_kilobytes
from ctcontrol_diffusion.rewards._load import load_reward as load_reward
from ctcontrol_diffusion.rewards._load import reward_names as reward_names
from ctcontrol_diffusion.rewards._pixels import Brightness as Brightness
from ctcontrol_diffusion.rewards._pixels import Symmetry as Symmetry
from ctcontrol_diffusion.rewards._pixels import luminance as luminance
from ctcontrol_diffusion.rewards._terminal import TerminalImageReward as TerminalImageReward
