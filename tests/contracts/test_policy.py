"""The contract of `Policy`: a Gaussian a row, the same in a rollout and in an update."""

import torch

from ctcontrol import Policy
from tests.helpers import assert_close, assert_covers, normal, seeded
from tests.tables import GRID, POLICIES, Row, kinds, over


def test_every_implementation_has_a_row() -> None:
    assert_covers(Policy, kinds(POLICIES))


def _rows(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    return GRID.times[:-1].to(dtype), normal(GRID.steps, 2, seed=1, dtype=dtype)


@over(POLICIES)
class TestPolicy:
    def test_shapes(self, case: Row) -> None:
        t, x = _rows()
        law = case.make().dist(t, x, None)
        assert law.mean.shape == (len(t), 2)
        assert law.std.shape in {(len(t),), (len(t), 2)}
        assert bool((law.std > 0).all())

    def test_rows_do_not_see_each_other(self, case: Row) -> None:
        policy, (t, x) = case.make(), _rows()
        whole, order = policy.dist(t, x, None), torch.tensor([4, 1, 1, 0])
        part = policy.dist(t[order], x[order], None)
        assert_close(part.mean, whole.mean[order], 1e-14)
        assert_close(part.std, whole.std[order], 1e-14)

    def test_same_call_same_law_and_no_randomness(self, case: Row) -> None:
        policy, (t, x) = case.make(), _rows()
        state = torch.get_rng_state()
        first, second = policy.dist(t, x, None), policy.dist(t, x, None)
        assert torch.equal(first.mean, second.mean)
        assert torch.equal(first.std, second.std)
        assert torch.equal(state, torch.get_rng_state())

    def test_what_is_learned_is_a_parameter(self, case: Row) -> None:
        policy, (t, x) = case.make(), _rows()
        trained = dict(policy.named_parameters())
        assert len(trained) == case.trained
        law = policy.dist(t, x, None)
        if trained:
            (law.mean.sum() + law.std.sum()).backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in trained.values())

    def test_state_dict_restores_it(self, case: Row) -> None:
        policy, other, (t, x) = case.make(), case.make(), _rows()
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1.0)
        other.load_state_dict(policy.state_dict())
        assert torch.equal(other.dist(t, x, None).mean, policy.dist(t, x, None).mean)

    def test_absorbing_is_declared(self, case: Row) -> None:
        assert case.make().absorbs_noise is case.absorbs

    def test_samples_have_the_law(self, case: Row) -> None:
        policy, (t, x) = case.make(), _rows()
        many = torch.tensor([2]).repeat(4000)
        law = policy.dist(t[many], x[many], None)
        with torch.no_grad():
            z = (law.sample(seeded(3)) - law.mean) / law.spread
        assert abs(float(z.mean())) < 5 / len(z.flatten()) ** 0.5
        assert abs(float(z.var()) - 1) < 5 * (2 / len(z.flatten())) ** 0.5
