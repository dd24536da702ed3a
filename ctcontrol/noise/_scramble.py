"""Sobol's points in base 2, scrambled at random."""

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

BITS = 30
"""Of a point; torch's direction numbers (Joe and Kuo 2008) have as many."""


class ScrambledSobol:
    """Points `first` … `first` + `rows` − 1 of one scrambled net for each of the `seeds`.

    A scramble maps the digits of each coordinate, most significant first, by a random lower
    triangular matrix with ones on its diagonal, and adds random digits (Matoušek 1998, "On the
    L2-discrepancy for anchored boxes"). Every 2^k points remain a net.

    The engines of torch and scipy do the same as fast, but make all coordinates of a point at once:
    half a gigabyte a tile for 1,000 steps of 8 noises. Here coordinates come as they are asked for.

    Args:
        size: number of coordinates.
        seeds: one a scramble.
        first: a multiple of `rows`.
        rows: 2^k.
        device: of the points.
    """

    def __init__(
        self, size: int, seeds: list[int], first: int, rows: int, device: torch.device
    ) -> None:
        self.rows, self.bits = rows, rows.bit_length() - 1
        wanted = max(self.bits, first.bit_length())
        plain = SobolEngine(size).sobolstate[:, :wanted].numpy().astype(np.int32)
        draws = np.stack([_digits(seed, size) for seed in seeds], -1)  # (31, size, scrambles)
        shift = draws[BITS]
        directions = np.zeros((wanted, *shift.shape), np.int32)
        for b in range(wanted):
            for p in range(b + 1):  # the b-th direction number has b + 1 leading digits
                one = 1 << (BITS - 1 - p)
                column = draws[p] & (one - 1) | one
                directions[b] ^= np.where(plain[:, b, None] & one, column, 0)
        for b in range(wanted):
            if first >> b & 1:
                shift = shift ^ directions[b]
        self.shift = torch.from_numpy(shift).to(device)
        self.directions = torch.from_numpy(directions[: self.bits]).to(device)

    def uniforms(self, coordinates: slice) -> Tensor:
        """2u − 1 for u in (0, 1), (coordinates, scrambles · rows), float64."""
        shift = self.shift[coordinates]
        points = shift.new_empty(*shift.shape, self.rows)
        points[..., 0] = shift
        for bit in range(self.bits):  # each direction doubles the points
            done, direction = 1 << bit, self.directions[bit, coordinates, :, None]
            torch.bitwise_xor(points[..., :done], direction, out=points[..., done : 2 * done])
        # u = (point + ½) 2^−30 is never 0 or 1
        return points.flatten(1).double().mul_(2.0 ** (1 - BITS)).add_(2.0**-BITS - 1)


def _digits(seed: int, size: int) -> np.ndarray:
    """Random integers of `BITS` digits, (BITS + 1, size)."""
    generator = np.random.Generator(np.random.SFC64(seed))
    return generator.integers(0, 1 << BITS, (BITS + 1, size), np.int32)
