"""Rewards of images: what fine-tuning maximises, built in or your own.

A reward is any callable with the contract of :class:`RewardFunction`,

    fn(images, prompts, metadata) -> (rewards, info)

named as :func:`load_reward` says: by one of :func:`reward_names` or :func:`model_reward_names`, as
``module:function`` if it is yours, as a ``sum:…`` of several, or by the ``http://…`` of a server.
"""

from ctcontrol_diffusion.rewards._aesthetic import Aesthetic as Aesthetic
from ctcontrol_diffusion.rewards._aesthetic import ScoreHead as ScoreHead
from ctcontrol_diffusion.rewards._alignment import ClassifierAlignment as ClassifierAlignment
from ctcontrol_diffusion.rewards._checked import CheckedReward as CheckedReward
from ctcontrol_diffusion.rewards._checked import RewardError as RewardError
from ctcontrol_diffusion.rewards._classifier import ClassScore as ClassScore
from ctcontrol_diffusion.rewards._clip import ClipEncoder as ClipEncoder
from ctcontrol_diffusion.rewards._clip import ClipScore as ClipScore
from ctcontrol_diffusion.rewards._contract import Info as Info
from ctcontrol_diffusion.rewards._contract import Metadata as Metadata
from ctcontrol_diffusion.rewards._contract import RewardFunction as RewardFunction
from ctcontrol_diffusion.rewards._contract import differentiable as differentiable
from ctcontrol_diffusion.rewards._contract import is_differentiable as is_differentiable
from ctcontrol_diffusion.rewards._image_reward import ImageReward as ImageReward
from ctcontrol_diffusion.rewards._jpeg import JPEGCompressibility as JPEGCompressibility
from ctcontrol_diffusion.rewards._jpeg import JPEGIncompressibility as JPEGIncompressibility
from ctcontrol_diffusion.rewards._jpeg import jpeg_kilobytes as jpeg_kilobytes
from ctcontrol_diffusion.rewards._load import load_reward as load_reward
from ctcontrol_diffusion.rewards._load import model_reward_names as model_reward_names
from ctcontrol_diffusion.rewards._load import reward_names as reward_names
from ctcontrol_diffusion.rewards._pixels import Brightness as Brightness
from ctcontrol_diffusion.rewards._pixels import Symmetry as Symmetry
from ctcontrol_diffusion.rewards._pixels import luminance as luminance
from ctcontrol_diffusion.rewards._remote import RemoteReward as RemoteReward
from ctcontrol_diffusion.rewards._resnet import CIFAR10_CLASSES as CIFAR10_CLASSES
from ctcontrol_diffusion.rewards._resnet import CifarResNet as CifarResNet
from ctcontrol_diffusion.rewards._resnet import load_cifar_resnet as load_cifar_resnet
from ctcontrol_diffusion.rewards._retry import Retried as Retried
from ctcontrol_diffusion.rewards._sum import Term as Term
from ctcontrol_diffusion.rewards._sum import WeightedReward as WeightedReward
from ctcontrol_diffusion.rewards._terminal import TerminalImageReward as TerminalImageReward
from ctcontrol_diffusion.rewards._trainable import TrainableReward as TrainableReward
from ctcontrol_diffusion.rewards._trainable import trainable_copy as trainable_copy
