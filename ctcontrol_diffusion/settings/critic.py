"""The value network of an image model, by the names of its parts in a config."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from ctcontrol import InformedResidual, PinnedValue, Variance
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.rewards import TerminalImageReward, trainable_copy
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.score import NetworkScore
from ctcontrol_diffusion.settings.links import link_for
from ctcontrol_diffusion.values import (
    Denoised,
    DenoisedGuess,
    FeatureHead,
    ImageResidual,
    NoGuess,
    OnDenoised,
    OnImages,
    OriginalGuess,
    PixelResidual,
    RewardTower,
)

Residual = nn.Module | InformedResidual


@dataclass(frozen=True, eq=False)
class ImageModel:
    """What a value network is made of, whatever the states are: pixels or latents.

    Attributes:
        score: the trainable mean action.
        schedule: of the model.
        clean: reward of states as if they were clean; its `decode` makes images of them.
        terminal: h, reward of states at the horizon.
        shape: of a state, (channels, height, width).
        classes: the context is an integer a row, below this number; 1 if it says nothing.
        data_variance: mean variance of a coordinate of the data, in the units of the states.
    """

    score: NetworkScore
    schedule: Schedule
    clean: TerminalImageReward
    terminal: TerminalImageReward
    shape: tuple[int, int, int]
    classes: int
    data_variance: float


def value_for(
    critic: c.Critic,
    model: ImageModel,
    usual: c.Design,
    device: torch.device,
    generator: torch.Generator,
) -> PinnedValue:
    """V = c_in · guess + c_out · F with the parts that `critic` names, on `device`.

    Args:
        critic: names of the parts.
        model: what they are made of.
        usual: the design that `auto` stands for.
        device: of the network.
        generator: its first weights are drawn from; one number is taken.
    """
    design = usual if critic.design == "auto" else critic.design
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        residual = _residual(design, critic, model, device).to(device)
    denoised = Denoised(model.score, model.schedule, model.data_variance)
    if critic.second == "denoised":
        residual = OnDenoised(residual, denoised)
    horizon = model.schedule.horizon
    link = link_for(critic, horizon, Variance(model.schedule.variance))
    guess = _guess(critic, model)
    return PinnedValue(guess, residual, link, derivative=critic.derivative).to(device)


def _guess(critic: c.Critic, model: ImageModel) -> DenoisedGuess | OriginalGuess | NoGuess:
    match critic.first:
        case "denoised":
            return DenoisedGuess(
                model.score, model.schedule, model.clean, model.terminal, model.data_variance
            )
        case "original":
            return OriginalGuess(model.schedule, model.clean, model.terminal)
        case "none":
            return NoGuess(model.schedule, model.terminal)


def _residual(
    design: c.Design, critic: c.Critic, model: ImageModel, device: torch.device
) -> Residual:
    schedule, width, pixels = model.schedule, critic.width, model.shape
    match design:
        case "perceptron":
            numbers = pixels[0] * pixels[1] * pixels[2]
            return PixelResidual(schedule, numbers, model.classes, width)
        case "convolution":
            return ImageResidual(schedule, pixels[0], model.classes, width)
        case "tower":
            return _tower(critic, model, device)
        case "features":
            return _features(critic, model, device)


def _features(critic: c.Critic, model: ImageModel, device: torch.device) -> FeatureHead:
    """A head, once it is known how many features there are."""
    model.score.take_notes()
    with torch.no_grad():
        none, first = torch.zeros(1, *model.shape, device=device), torch.zeros(1, device=device)
        _, notes = model.score.noted(first, none, first.long())
    assert notes is not None
    count = notes.shape[1]
    return FeatureHead(model.score, model.schedule, count, model.classes, critic.width)


def _tower(critic: c.Critic, model: ImageModel, device: torch.device) -> Residual:
    """The reward's own networks, or a convolutional one where it has none that can learn."""
    found = trainable_copy(model.clean.reward, critic.tower_share)
    if found is not None:
        return RewardTower(replace(model.clean, reward=found.reward), found.networks)
    with torch.no_grad():
        none = torch.zeros(1, *model.shape, device=device)
        image = model.clean.decode(none, torch.zeros(1, dtype=torch.long, device=device))
    network = ImageResidual(model.schedule, image.shape[1], model.classes, critic.width)
    return OnImages(network, model.clean.decode)
