"""The contract of `NoiseSource`: Gaussian increments of the right law, replayed by the recipe."""

import pytest
import torch
from torch import Tensor

from ctcontrol import BrownianPath, CtcontrolError, NoiseSource, SeededNoise, TimeGrid
from ctcontrol._deal import Deal
from ctcontrol.noise import Tile
from tests.helpers import assert_close, assert_covers, assert_mean
from tests.tables import NOISES, Row, kinds, over

GRID = TimeGrid.from_times([0.0, 0.2, 0.25, 0.9, 1.0])
SHAPE = (4096, 2)


def draw(source: NoiseSource, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """All increments of a grid, (steps, *shape), tile by tile."""
    parts: list[Tensor] = []
    for index, rows in enumerate(source.tiles(shape[0])):
        stream = source.stream(Tile(GRID, index, rows.start, rows.stop, shape[0]))
        out = torch.full((len(rows), *shape[1:]), torch.nan, dtype=dtype)
        steps: list[Tensor] = []
        for begin, end in GRID.intervals():
            assert stream.increment(begin, end, out) is out, "the buffer is filled and returned"
            steps.append(out.clone())
        parts.append(torch.stack(steps))
    return torch.cat(parts, 1)


def test_every_implementation_has_a_row() -> None:
    """A stream is held to it through the recipe that makes it."""
    tile = Tile(GRID, 0, 0, 64, 64)
    made = [case.make(1.0, (64, 2)).stream(tile) for case in NOISES]
    part = Deal(64, range(64), torch.Generator(), made[0]).noise(range(8, 16))
    assert_covers(NoiseSource, kinds(NOISES) | {type(stream) for stream in [*made, part]})


@over(NOISES)
def test_a_part_of_a_tile_has_its_numbers(case: Row) -> None:
    whole, parts = (torch.empty(64, 2), torch.empty(64, 2))
    tile = Tile(GRID, 0, 0, 64, 64)
    t0, t1 = GRID.times[:2].tolist()
    case.make(1.0, (64, 2)).stream(tile).increment(t0, t1, whole)
    deal = Deal(64, range(64), torch.Generator(), case.make(1.0, (64, 2)).stream(tile))
    for rows in (range(24), range(24, 64)):
        deal.noise(rows).increment(t0, t1, parts[rows.start : rows.stop])
    assert torch.equal(parts, whole)


@over(NOISES)
class TestNoise:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_buffer_decides_shape_and_dtype(self, case: Row, dtype: torch.dtype) -> None:
        shape = (32, 2, 3)
        dw = draw(case.make(1.0, shape), shape, dtype)
        assert dw.dtype == dtype
        assert bool(torch.isfinite(dw).all())

    def test_increments_have_the_law_of_brownian_motion(self, case: Row) -> None:
        """Mean 0 and covariance Δ I: intervals and coordinates are uncorrelated."""
        source = case.make(1.0, SHAPE)
        rows = draw(source, SHAPE, torch.float64).permute(1, 0, 2).flatten(1)
        scale = case.scale * GRID.lengths.sqrt().repeat_interleave(2)
        moments = rows[:, :, None] * rows[:, None, :]
        # paths of one replicate may be dependent: never less exact than independent ones
        assert_mean(rows, 0.0)
        assert_mean(moments, torch.diag(scale**2))

    @pytest.mark.parametrize("columns", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_noise_to_be_multiplied_is_the_same_noise(
        self, case: Row, dtype: torch.dtype, columns: bool
    ) -> None:
        """`scaled` and the `scaler` of a buffer write a · ΔW but for a number that is returned."""
        shape, by = (64, 2), -1.7
        tile = Tile(GRID, 0, 0, *shape[:1], *shape[:1])
        streams = [case.make(1.0, shape).stream(tile) for _ in range(3)]
        outs = [
            torch.full(shape[::-1], torch.nan, dtype=dtype).mT
            if columns
            else torch.full(shape, torch.nan, dtype=dtype)
            for _ in streams
        ]
        scaler = streams[2].scaler(outs[2])
        for begin, end in GRID.intervals():
            streams[0].increment(begin, end, outs[0])
            rest = streams[1].scaled(begin, end, by, outs[1])
            assert_close(rest * outs[1], by * outs[0], 1e-6)
            again = scaler(begin, end, by, outs[2])
            assert again == rest
            assert torch.equal(outs[2], outs[1])

    def test_states_in_columns_are_filled_alike(self, case: Row) -> None:
        out = torch.full((2, 512), torch.nan, dtype=torch.float64).mT
        stream = case.make(1.0, (512, 2)).stream(Tile(GRID, 0, 0, 512, 512))
        assert stream.increment(0.0, 0.2, out) is out
        assert bool(torch.isfinite(out).all())
        assert_mean(out.square(), case.scale**2 * 0.2)

    def test_the_recipe_repeats_itself(self, case: Row) -> None:
        shape = (64, 2)
        first, second = (draw(case.make(1.0, shape), shape, torch.float64) for _ in range(2))
        assert_close(first, second, 0.0)

    def test_further_paths_are_other_paths(self, case: Row) -> None:
        source = case.make(1.0, (64, 2))
        if case.kind is BrownianPath:
            with pytest.raises(CtcontrolError, match="the noise of one batch"):
                source.after(64)
            return
        first = draw(source, (64, 2), torch.float64)
        second = draw(source.after(64), (64, 2), torch.float64)
        assert first.shape == second.shape
        assert case.scale == 0 or not bool((first == second).any())
        if isinstance(source, SeededNoise):
            assert_close(draw(source.after(0), (64, 2), torch.float64), first, 0.0)

    def test_replicates_keep_the_mean(self, case: Row) -> None:
        source = case.make(1.0, SHAPE)
        samples = draw(source, SHAPE, torch.float64)[0, :, 0]
        assert_close(source.replicates(samples).mean(), samples.mean())
