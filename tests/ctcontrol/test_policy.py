"""What policies refuse, and the node table of the noise-absorbing one."""

import pytest
import torch

from ctcontrol import (
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    LearnedStd,
    NoiseAbsorbingPolicy,
    TimeGrid,
    WhiteNoise,
    simulate,
)
from ctcontrol_diffusion.solvers import DDIM
from tests.helpers import assert_close, normal
from tests.problems import GaussianDiffusion, Isotropic, constant


@pytest.mark.parametrize("bad", [-0.1, float("nan")])
def test_exploration_is_not_negative(bad: float) -> None:
    with pytest.raises(CtcontrolError, match=f"std must be a finite number >= 0, got {bad}"):
        GaussianPolicy(lambda t, x, c: x, bad)


def test_a_function_of_time_may_be_the_std() -> None:
    policy = GaussianPolicy(lambda t, x, c: x, lambda t: 1 + t)
    assert policy.dist(torch.tensor([0.0, 0.5]), normal(2, 3), None).std.tolist() == [1.0, 1.5]


class TestLearnedStd:
    def test_one_number_or_one_a_coordinate(self) -> None:
        t = torch.tensor([0.0, 0.5])
        assert LearnedStd(0.4)(t).tolist() == pytest.approx([0.4, 0.4])
        assert_close(LearnedStd([0.4, 0.2])(t), torch.tensor([[0.4, 0.2]] * 2), 1e-6)

    def test_it_may_grow_in_time(self) -> None:
        std = LearnedStd(0.4, of_time=True)
        assert std.log_rate is not None
        with torch.no_grad():
            std.log_rate.fill_(2.0)
        found = std(torch.tensor([0.0, 0.5]).double())
        assert_close(found, 0.4 * torch.tensor([0.0, 1.0]).double().exp())

    @pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
    def test_it_is_positive(self, bad: float) -> None:
        with pytest.raises(CtcontrolError, match="to be learned must be finite and > 0"):
            LearnedStd(bad)


class TestNoiseAbsorbing:
    def _policy(self, grid: TimeGrid) -> NoiseAbsorbingPolicy:
        sde = GaussianDiffusion().control(1.0).sde
        return NoiseAbsorbingPolicy(lambda t, x, c: -x, sde, EulerMaruyama(), grid)

    def test_std_of_a_reverse_diffusion(self) -> None:
        """1/(g√Δ), in the clock in which the noise is large at the start."""
        grid = TimeGrid.from_times([0.0, 0.2, 0.5, 0.9])
        std = self._policy(grid).dist(grid.times[:-1], normal(3, 1), None).std
        beta = 0.1 + 7.9 * (1 - grid.times[:-1])
        assert_close(std, 1 / (beta * grid.lengths).sqrt())

    @pytest.mark.parametrize("steps", [3, 50, 999])
    def test_single_precision_finds_its_nodes(self, steps: int) -> None:
        grid = TimeGrid.uniform(1.0, steps)
        policy = self._policy(grid)
        law = policy.dist(grid.times[:-1].float(), torch.zeros(steps, 1), None)
        assert law.std.dtype == torch.float32
        assert_close(law.std, policy.table.float(), 1e-6)

    def test_other_times_are_refused(self) -> None:
        policy = self._policy(TimeGrid.uniform(1.0, 4))
        says = r"t = 0.3 is not a node of the grid.*its own grid, or use GaussianPolicy"
        with pytest.raises(CtcontrolError, match=says):
            policy.dist(torch.tensor([0.25, 0.3]).double(), normal(2, 1), None)
        with pytest.raises(CtcontrolError, match="t = 1 is not a node"):  # nothing starts there
            policy.dist(torch.tensor([1.0]).double(), normal(1, 1), None)

    def test_a_rollout_with_another_scheme_or_other_noise_is_refused(self) -> None:
        """Either would give the states other noise than the likelihood ratio supposes."""
        grid = TimeGrid.uniform(1.0, 4)
        policy, problem = self._policy(grid), GaussianDiffusion().control(1.0).problem
        generator = torch.Generator().manual_seed(0)
        with pytest.raises(CtcontrolError, match=r"absorbs the noise of EulerMaruyama\(\)"):
            simulate(problem, policy, grid, 2, generator=generator, solver=DDIM())
        with pytest.raises(CtcontrolError, match="takes no other"):
            simulate(problem, policy, grid, 2, generator=generator, noise=WhiteNoise(1))

    def test_a_step_without_noise_is_refused(self) -> None:
        still = Isotropic(constant(0.0), constant(1.0), lambda t: (0.5 - t).clamp_min(0))
        says = r"EulerMaruyama has a step without noise.*use eta > 0 and end the grid before"
        with pytest.raises(CtcontrolError, match=says):
            NoiseAbsorbingPolicy(
                lambda t, x, c: x, still, EulerMaruyama(), TimeGrid.uniform(1.0, 4)
            )

    def test_an_action_without_effect_is_refused(self) -> None:
        deaf = Isotropic(constant(0.0), constant(0.0), constant(1.0))
        with pytest.raises(CtcontrolError, match="its likelihood ratio is infinite"):
            NoiseAbsorbingPolicy(lambda t, x, c: x, deaf, EulerMaruyama(), TimeGrid.uniform(1.0, 4))

    def test_tables_are_not_saved_with_the_weights(self) -> None:
        assert self._policy(TimeGrid.uniform(1.0, 4)).state_dict() == {}
