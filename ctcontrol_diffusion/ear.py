"""What a block inside a network computes while the network works for somebody else."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import get_ident

import torch
from torch import Tensor, nn


class Ear:
    """Hears the block and keeps, of every image, the mean and the spread of each channel.

    Args:
        block: its output is (images, channels, height, width).
    """

    def __init__(self, block: nn.Module) -> None:
        # By thread: tiles of a rollout may share the network.
        self._heard: dict[int, list[Tensor]] = {}
        self._kept: dict[int, list[Tensor]] = {}
        block.register_forward_hook(self._hear)

    @contextmanager
    def listening(self) -> Generator[list[Tensor]]:
        """The features kept in the meantime, part by part, (rows, 2 · channels), float32."""
        me = get_ident()
        kept = self._kept[me] = []
        self._heard[me] = []
        try:
            yield kept
        finally:
            del self._heard[me], self._kept[me]

    def keep(self, rows: int) -> None:
        """Keep the first `rows` images since the last time: under guidance, the prompted ones."""
        me = get_ident()
        if me in self._heard:
            heard, self._heard[me] = self._heard[me], []
            self._kept[me].append(_pooled(heard[0][:rows]))

    def _hear(self, block: nn.Module, inputs: object, output: Tensor) -> None:
        heard = self._heard.get(get_ident())
        if heard is not None:
            heard.append(output)


def _pooled(features: Tensor) -> Tensor:
    pixels = features.float().flatten(2)
    mean = pixels.mean(2)
    # the root has no slope at 0: images of one pixel have no spread
    spread = ((pixels - mean[:, :, None]).square().mean(2) + 1e-12).sqrt()
    return torch.cat([mean, spread], 1)
