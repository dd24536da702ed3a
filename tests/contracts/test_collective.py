"""What every collective keeps; test_ranks.py of the application runs several processes."""

from collections.abc import Iterator

import pytest
import torch
from torch import distributed as dist

from ctcontrol import Collective, CtcontrolError
from tests.helpers import assert_covers, normal
from tests.tables import COLLECTIVES, Row, kinds, over


@pytest.fixture(autouse=True)
def _parted() -> Iterator[None]:
    """Processes that met in a test part again."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_every_implementation_has_a_row() -> None:
    assert_covers(Collective, kinds(COLLECTIVES))


@over(COLLECTIVES)
class TestCollective:
    def test_this_process_is_one_of_them(self, case: Row) -> None:
        collective = case.make()
        assert collective.rank in range(collective.size)

    def test_sums_keep_shapes_and_dtypes(self, case: Row) -> None:
        collective, size = case.make(), case.make().size
        given = [
            normal(3, 2),
            normal(4, dtype=torch.float32),
            torch.tensor([2, 3]),
            normal(1 << 17, seed=2),
            torch.tensor(0.5),
        ]
        found = collective.sum([tensor.clone() for tensor in given])
        for before, after in zip(given, found, strict=True):
            assert after.dtype == before.dtype
            assert torch.equal(after, size * before)
        assert collective.sum([]) == []

    @pytest.mark.parametrize("dtype", [torch.float64, torch.uint8, torch.long, torch.bool])
    def test_rows_come_in_the_order_of_ranks(self, case: Row, dtype: torch.dtype) -> None:
        collective = case.make()
        rows = (10 * normal(5, 2)).abs().to(dtype)
        found = collective.gather(rows, [5] * collective.size)
        assert found.dtype == dtype
        assert torch.equal(found, rows.repeat(collective.size, 1))

    def test_going_on_together_or_not_at_all(self, case: Row) -> None:
        collective, error = case.make(), CtcontrolError("mine")
        collective.agree(None)
        with pytest.raises(CtcontrolError) as caught:
            collective.agree(error)
        assert caught.value is error
