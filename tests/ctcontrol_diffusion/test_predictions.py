"""What a network predicts, whatever it is, becomes the same score."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from ctcontrol import CtcontrolError, like
from ctcontrol_diffusion.schedule import FlowSchedule, NoiseSchedule, Schedule, schedule_of
from ctcontrol_diffusion.score import NetworkScore, Prediction, prediction_of
from tests.helpers import assert_close, normal

N = 1000
MEAN, VARIANCE = 0.7, 0.5
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample")
TIMES = torch.tensor([0.0, 0.25, 0.513, 0.9, 0.975], dtype=torch.float64)  # discrete ones all


def table() -> Tensor:
    """ᾱ of the linear schedule of DDPM in float64."""
    return (1 - torch.linspace(1e-4, 0.02, N, dtype=torch.float64)).cumprod(0)


class Exact(nn.Module):
    """The network that has learnt N(MEAN, VARIANCE) data to the last digit.

    It knows its own integer times alone, as a network of diffusers does.
    """

    def __init__(self, prediction: Prediction, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.prediction, self.dtype = prediction, dtype
        self.times: list[float] = []

    def levels(self, time: Tensor) -> tuple[Tensor, Tensor]:
        if self.prediction == "flow_prediction":
            return 1 - time.double() / N, time.double() / N
        assert bool((time == time.round()).all()), f"asked at {time.tolist()}"
        kept = table()[time.long()]
        return kept.sqrt(), (1 - kept).sqrt()

    def forward(self, x: Tensor, time: Tensor) -> SimpleNamespace:
        self.times = time.tolist()
        alpha, sigma = (like(level, x) for level in self.levels(time))
        spread = alpha**2 * VARIANCE + sigma**2
        clean = MEAN + alpha * VARIANCE / spread * (x - alpha * MEAN)
        noise = sigma / spread * (x - alpha * MEAN)
        answer = {
            "epsilon": noise,
            "v_prediction": alpha * noise - sigma * clean,
            "sample": clean,
            "flow_prediction": noise - clean,
        }
        return SimpleNamespace(sample=answer[self.prediction].to(self.dtype))


def exact_score(schedule: Schedule, t: Tensor, x: Tensor) -> Tensor:
    alpha = schedule.alpha(t)
    spread = alpha**2 * VARIANCE + schedule.variance(t)
    return -(x - like(alpha * MEAN, x)) / like(spread, x)


def path(prediction: Prediction) -> Schedule:
    if prediction == "flow_prediction":
        return FlowSchedule(3.0, 0.02)
    return NoiseSchedule.from_alphas_cumprod(table(), 0.02)


@pytest.mark.parametrize("prediction", [*PREDICTIONS, "flow_prediction"])
def test_the_score_of_gaussian_data(prediction: Prediction) -> None:
    schedule, x = path(prediction), normal(len(TIMES), 1, 2, 2)
    score = NetworkScore(Exact(prediction), schedule, prediction)
    assert_close(score(TIMES, x, None), exact_score(schedule, TIMES, x), 1e-6)
    single = NetworkScore(Exact(prediction, torch.float32), schedule, prediction)
    found = single(TIMES.float(), x.float(), None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact_score(schedule, TIMES, x).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("wrong", PREDICTIONS)
def test_no_prediction_passes_for_another(prediction: Prediction, wrong: Prediction) -> None:
    if prediction == wrong:
        return
    schedule, x = path(prediction), normal(len(TIMES), 1, 2, 2)
    found = NetworkScore(Exact(prediction), schedule, wrong)(TIMES, x, None)
    assert float((found - exact_score(schedule, TIMES, x)).abs().max()) > 0.1


def test_every_discrete_time_is_asked_as_the_integer_it_was_trained_as() -> None:
    """In float32, 1 − k/n comes back as 803.00002 and the like."""
    schedule, network = path("epsilon"), Exact("epsilon")
    score = NetworkScore(network, schedule, "epsilon")
    k = torch.arange(1, N + 1)
    for dtype in (torch.float64, torch.float32):
        t = (1 - k.double() / N).to(dtype)
        score(t, torch.zeros(N, 1, dtype=dtype), None)
        assert network.times == list(range(N))


def test_between_its_times_a_network_is_asked_in_between() -> None:
    schedule = path("epsilon")
    t = 1 - torch.tensor([400.25, 400.5, 400.75], dtype=torch.float64) / N
    assert_close(schedule.timestep(t), torch.tensor([399.25, 399.5, 399.75]), 1e-9)


class Fixed(nn.Module):
    """Remembers what it was asked."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make
        self.asked: dict[str, Any] = {}

    def forward(self, x: Tensor, time: Tensor, **labels: Tensor) -> SimpleNamespace:
        self.asked = {"time": time, **labels}
        return SimpleNamespace(sample=self.make(x))


def test_the_class_is_given_to_those_who_take_one() -> None:
    schedule, x, labels = path("epsilon"), normal(2, 3, 2, 2), torch.tensor([3, 4])
    for conditional in (True, False):
        network = Fixed(torch.zeros_like)
        NetworkScore(network, schedule, conditional=conditional)(TIMES[:2], x, labels)
        assert ("class_labels" in network.asked) == conditional


def test_a_learned_variance_is_dropped() -> None:
    x = normal(2, 3, 2, 2)
    network = Fixed(lambda x: torch.cat([x, 100 * x], 1))
    score = NetworkScore(network, path("epsilon"))
    assert_close(score.output(TIMES[:2], x, None), x)


def test_low_precision_stays_within_the_network() -> None:
    layer = nn.Linear(4, 4)
    network = Fixed(lambda x: layer(x))
    score = NetworkScore(network, path("epsilon"), compute=torch.bfloat16)
    x = normal(2, 4, dtype=torch.float32)
    with torch.no_grad():
        found = score(TIMES[:2].float(), x, None)
        assert found.dtype == torch.float32
        exact = -layer(x) / path("epsilon").sigma(TIMES[:2].float())[:, None]
    assert 0 < float((found - exact).abs().max()) < 0.1


@pytest.mark.parametrize(
    ("scheduler", "prediction", "kind"),
    [
        (DDPMScheduler(), "epsilon", NoiseSchedule),
        (DDIMScheduler(prediction_type="v_prediction"), "v_prediction", NoiseSchedule),
        (DDPMScheduler(prediction_type="sample"), "sample", NoiseSchedule),
        (FlowMatchEulerDiscreteScheduler(shift=3.0), "flow_prediction", FlowSchedule),
        (
            UniPCMultistepScheduler(
                use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
            ),
            "flow_prediction",
            FlowSchedule,
        ),
    ],
)
def test_the_scheduler_says_what_is_predicted(
    scheduler: Any, prediction: Prediction, kind: type[Schedule]
) -> None:
    assert prediction_of(scheduler) == prediction
    schedule = schedule_of(scheduler, 0.02)
    assert isinstance(schedule, kind)
    if isinstance(schedule, FlowSchedule):
        assert schedule.shift == 3.0


def test_predictions_that_are_not_known_or_do_not_fit() -> None:
    strange = SimpleNamespace(config={"prediction_type": "dreams"})
    with pytest.raises(CtcontrolError, match=r"prediction_type 'dreams'; .* epsilon, v_pred"):
        prediction_of(strange)
    with pytest.raises(CtcontrolError, match="flow_prediction does not go with a NoiseSchedule"):
        NetworkScore(Exact("sample"), path("sample"), "flow_prediction")
    with pytest.raises(CtcontrolError, match="v_prediction does not go with a FlowSchedule"):
        NetworkScore(Exact("sample"), path("flow_prediction"), "v_prediction")


def test_zero_terminal_snr_with_v_prediction() -> None:
    """The first step starts from noise alone, and x̂₀ = −v there, to what float32 can hold."""
    made = DDIMScheduler(
        N,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    )
    schedule = schedule_of(made, 0.02)
    start = torch.zeros(4)
    assert float(schedule.alpha(start)[0]) == pytest.approx(2**-12)
    clean = normal(4, 1, 2, 2, dtype=torch.float32)
    network = Fixed(lambda x: -clean)
    score = NetworkScore(network, schedule, "v_prediction")
    x = normal(4, 1, 2, 2, seed=1, dtype=torch.float32)
    a = score(start, x, None)
    assert network.asked["time"].tolist() == [999] * 4
    found = (x + like(schedule.variance(start), x) * a) / like(schedule.alpha(start), x)
    torch.testing.assert_close(found, clean, rtol=0, atol=3e-3)

    steeper = DDIMScheduler(N, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert bool((schedule_of(steeper, 0.02).alpha(torch.linspace(0, 1, N + 1)) > 0).all())


def test_zero_terminal_snr_tells_a_noise_predictor_nothing() -> None:
    with pytest.raises(CtcontrolError, match="zero terminal SNR"):
        schedule_of(DDIMScheduler(N, rescale_betas_zero_snr=True), 0.02)
