"""A head on what the policy's own network computes."""

import torch
from torch import Tensor, nn

from ctcontrol import Action, Context, InformedResidual, NotingMean, Scalar, State, Time
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.values._conditions import LevelAndClass, perceptron, zero_head


class FeatureHead(InformedResidual):
    """F(features(t, x, class), t, class): a perceptron on the notes of the policy, 0 at the start.

    On rows of a rollout the features are those of the rollout, as the policy then was, and count
    as constants: no network but this one is evaluated, and ∇F is 0. For other (t, x) the policy's
    network is asked, as it now is, and F can be differentiated through it. What is fitted follows
    the policy, whose features drift while it learns.

    Args:
        source: the policy's mean; its notes are the features, (batch, count).
        schedule: gives the noise level, the coordinate in which time is fed.
        count: number of features.
        classes: number of classes of the context; 1 for an unconditional model.
        width: of both hidden layers.
    """

    def __init__(
        self, source: NotingMean, schedule: Schedule, count: int, classes: int, width: int
    ) -> None:
        super().__init__()
        self._source = (source,)  # in a tuple: not a submodule, so never trained, never saved
        self.told = LevelAndClass(schedule, classes)
        self.scale = nn.LayerNorm(count, elementwise_affine=False)
        self.body = perceptron(count + self.told.count, width)
        self.head = zero_head(width)

    def forward(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        notes: Tensor | None = None,
    ) -> Scalar:
        if notes is None:
            _, notes = self._source[0].noted(t, x, context)
        assert notes is not None
        seen = [self.scale(notes.to(x.dtype)), self.told(t, context, x.dtype)]
        return self.head(self.body(torch.cat(seen, 1))).squeeze(1)
