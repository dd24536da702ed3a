import itertools
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from ctcontrol import CtcontrolError, GaussianPolicy, Iteration, PathKL, TimeGrid, simulate
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.models.digits import load_classifier, load_denoiser, save_denoiser
from ctcontrol_diffusion.rewards import reward_names
from ctcontrol_diffusion.score import EpsilonScore, denoise
from ctcontrol_diffusion.settings import digits
from ctcontrol_diffusion.solvers import DDIM
from tests.helpers import normal, seeded

LOOKS = c.Evaluation((2, 4), 20, 2, ("symmetry",), 1, 8, stop_on="symmetry", patience=2)
ROLLOUT = c.Rollout(steps=4, batch=8)
UPDATE = c.Update(minibatch=16, share=1.0, warmup=1)
CRITIC = c.Critic(minibatch=16, width=8, policy_waits=1)
TINY = c.Config(
    iterations=3,
    rollout=ROLLOUT,
    update=UPDATE,
    critic=CRITIC,
    evaluation=c.Evaluation(steps=(2, 4), images=20, grid=2),
)


def critic(**changes: Any) -> c.Critic:
    return replace(CRITIC, **changes)


def update(**changes: Any) -> c.Update:
    return replace(UPDATE, **changes)


VARIANTS = {
    "generalized": replace(
        TINY,
        problem=c.Digits(trained="conditioning"),
        update=update(advantage_decay=2.0, epochs=2, share=0.5, credited=0.5),
    ),
    "noise-aware": replace(TINY, update=update(advantage="noise-aware"), micro_batch=5),
    "closed form": replace(
        TINY,
        update=update(advantage="closed-form", clip=0.05, decay="none", standardize="none"),
        critic=critic(fit="noise-aware", link="linear", decay="none"),
    ),
    "closed form, full gradient, explored": replace(
        TINY,
        rollout=replace(ROLLOUT, exploration=0.8),
        update=update(advantage="closed-form", log_ratio_scale=0.5),
        critic=critic(fit="temporal-difference", link="variance", gradient="full"),
    ),
    "monte carlo": replace(
        TINY,
        problem=c.Digits(eta=0.6, floor=0.1),
        update=update(advantage="monte-carlo", clip_norm=0.1, learning_rate=1e-4),
        critic=critic(link="cos-one-minus-cos", fit="monte-carlo", epochs=1, learning_rate=1e-2),
    ),
    "ddpo": replace(TINY, algorithm="ddpo", seed=3, problem=c.Digits(held_out=("8", "9"))),
    "ddpo, file sizes": replace(
        TINY, algorithm="ddpo", problem=c.Digits(reward="jpeg-incompressibility", kl_weight=0.0)
    ),
    "file sizes, temporal difference": replace(
        TINY,
        problem=c.Digits(reward="jpeg-compressibility"),
        update=update(advantage="temporal-difference", standardize="per-prompt", averaged=0.0),
    ),
    "pathwise": replace(TINY, algorithm="pathwise", evaluation=LOOKS),
    "pathwise, full gradient": replace(
        TINY,
        algorithm="pathwise",
        problem=c.Digits(reward="symmetry"),
        critic=critic(gradient="full", fit="noise-aware", link="variance"),
    ),
    "pathwise, sure": replace(
        TINY,
        algorithm="pathwise",
        problem=c.Digits(reward="brightness"),
        rollout=replace(ROLLOUT, exploration=0.0),
        critic=critic(fit="temporal-difference", link="linear"),
    ),
    "tower": replace(TINY, critic=critic(design="tower", second="denoised", tower_share=0.5)),
    "features": replace(TINY, critic=critic(design="features", derivative="forward")),
    "convolution, no guess": replace(
        TINY, critic=critic(design="convolution", first="none", link="const")
    ),
    "perceptron, nothing denoised": replace(
        TINY, critic=critic(design="perceptron", first="original")
    ),
}


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, type, value) of every choice."""
    types = get_type_hints(type(config))
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, types[f.name], value


def test_the_variants_exercise_every_choice() -> None:
    """What is not among them: the machine, what a run records, and the paths of files."""
    seen: dict[str, set[Any]] = {}
    for variant in VARIANTS.values():
        assert check_config(variant) is variant
        for name, _, value in leaves(variant):
            seen.setdefault(name, set()).add(value)
    elsewhere = {"threads", "device", "checkpoint_every", "trackers", "problem.denoiser"}
    for name, kind, default in leaves(c.Config()):
        if name not in elsewhere:
            assert seen[name] - {default}, f"no variant changes {name}"
        options = {o for o in get_args(kind) if isinstance(o, str)}
        options |= {o for part in get_args(kind) for o in get_args(part)}
        assert options - {type(None)} <= seen[name] | {float}, name
    assert set(reward_names()) == seen["problem.reward"]


def reference(experiment: Experiment) -> nn.Module:
    regularizer = experiment.setting.problem.regularizer
    assert isinstance(regularizer, PathKL)
    assert isinstance(regularizer.reference, GaussianPolicy)
    mean = regularizer.reference.mean
    assert isinstance(mean, nn.Module)
    return mean


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}


quiet = lambda done, of: None


@pytest.mark.parametrize("name", VARIANTS)
def test_iterations(name: str) -> None:
    """Each trains what it may train and nothing else, from a likelihood ratio of 1 on."""
    experiment = build(VARIANTS[name])
    mean, anchor = experiment.setting.mean, reference(experiment)
    policy, pretrained = weights(mean), weights(anchor)
    value = weights(experiment.value) if experiment.value is not None else {}
    done: list[Iteration] = list(itertools.islice(experiment.iterations(), 3))
    assert moved(pretrained, anchor) == set()
    trained = {n for n, p in mean.named_parameters() if p.requires_grad}
    assert moved(policy, mean) <= trained
    assert len(moved(policy, mean)) > len(trained) / 2
    problem = experiment.config.problem
    assert isinstance(problem, c.Digits)
    conditioning = all("_emb" in n for n in trained)
    assert conditioning == (problem.trained == "conditioning")
    ddpo = experiment.value is None
    assert ddpo == (experiment.config.algorithm == "ddpo")
    if experiment.value is not None:
        learned = {n for n, p in experiment.value.named_parameters() if p.requires_grad}
        assert moved(value, experiment.value) == learned
    each = 2 * round(experiment.config.update.epochs * experiment.config.update.share)
    assert [i.updates for i in done] == [each if ddpo else 0, each, each]
    for i in done:
        assert math.isfinite(i.returns.mean)
        assert i.trajectory.states.shape == (5, 8, 1, 8, 8)
        assert ddpo == math.isnan(i.value_loss)
        if i.updates:
            assert math.isfinite(i.policy_loss)
            assert i.gradient_norm > 0
    still = done[0] if ddpo else done[1]
    assert float(still.divergence.mean) == pytest.approx(0, abs=1e-6)
    assert done[2].divergence.mean > (0 if ddpo else 1e-9)


def test_one_update_from_the_rollout_has_ratio_one() -> None:
    """With one minibatch an iteration the policy of the update is that of the rollout."""
    whole = replace(TINY, update=update(minibatch=32), critic=critic(policy_waits=0))
    for i in itertools.islice(build(whole).iterations(), 2):
        assert i.updates == 1
        assert i.log_ratio < 1e-4
        assert i.clip_fraction == 0


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """Never trained."""
    return build(TINY)


class TestSetting:
    def test_the_start_is_noise_and_every_prompt_alike(self, experiment: Experiment) -> None:
        initial, g = experiment.setting.problem.initial, seeded(1)
        x, labels = initial(2000, g)
        assert labels.bincount(minlength=10).tolist() == [200] * 10
        assert abs(float(x.mean())) < 5 / (2000 * 64) ** 0.5
        assert abs(float(x.var()) - 1) < 5 * (2 / (2000 * 64)) ** 0.5
        few = [initial(13, g)[1] for _ in range(20)]
        counts = torch.stack([labels.bincount(minlength=10) for labels in few])
        assert counts.min() == 1
        assert counts.max() == 2
        assert len({int(labels[0]) for labels in few}) > 3  # not always the same digits twice

    def test_policy_and_reference_share_nothing(self, experiment: Experiment) -> None:
        mean, anchor = experiment.setting.mean, reference(experiment)
        stores = [{p.data_ptr() for p in m.parameters()} for m in (mean, anchor)]
        assert not stores[0] & stores[1]
        assert len(stores[0]) == len(stores[1]) == len(list(mean.parameters()))
        assert not any(p.requires_grad for p in anchor.parameters())
        assert not mean.training
        assert not anchor.training
        assert moved(weights(anchor), mean) == set()

    def test_the_value_trains_its_residual_only(self, experiment: Experiment) -> None:
        value, mean = experiment.setting.value, experiment.setting.mean
        assert not {id(p) for p in value.parameters()} & {id(p) for p in mean.parameters()}

    def test_networks_start_from_the_seed_alone(self, experiment: Experiment) -> None:
        state = torch.random.get_rng_state()
        torch.manual_seed(99)
        same, other = build(TINY), build(replace(TINY, seed=1))
        torch.random.set_rng_state(state)
        assert moved(weights(experiment.setting.value), same.setting.value) == set()
        assert moved(weights(experiment.setting.value), other.setting.value) != set()

    def test_the_value_at_the_horizon_is_the_reward(self, experiment: Experiment) -> None:
        problem, value = experiment.setting.problem, experiment.setting.value
        x, labels = problem.initial(6, seeded())
        t = torch.full((6,), problem.horizon)
        mean = experiment.setting.mean(t, x, labels)
        reward = problem.reward.terminal(x, labels)
        assert float(reward.std()) > 0
        with torch.no_grad():
            for given in (None, mean):
                torch.testing.assert_close(value.at(t, x, labels, given), reward)

    def test_images(self, experiment: Experiment) -> None:
        pictures = experiment.setting.pictures
        assert pictures is not None
        x = 5 * normal(10, 1, 8, 8, dtype=torch.float32)
        with torch.no_grad():
            images = pictures.decode(x, torch.arange(10))
        assert images.shape == (10, 1, 8, 8)
        assert 0 <= float(images.min()) < float(images.max()) <= 1

    def test_the_decoder_is_not_trained(self) -> None:
        """Rewards must not rise because the decoder moved."""
        trained = build(TINY)
        pictures, x = trained.setting.pictures, normal(10, 1, 8, 8, dtype=torch.float32)
        assert pictures is not None
        with torch.no_grad():
            before = pictures.decode(x, torch.arange(10))
            for p in trained.setting.mean.parameters():
                p.add_(0.1)
            assert torch.equal(pictures.decode(x, torch.arange(10)), before)

    def test_prompts(self, experiment: Experiment) -> None:
        pictures = experiment.setting.pictures
        assert pictures is not None
        labels = pictures.contexts(["3", "0", " 9 "])
        assert isinstance(labels, Tensor)
        assert labels.tolist() == [3, 0, 9]
        assert pictures.prompts(labels) == ["3", "0", "9"]
        for bad in ("x", "10", "-1", "", "3.0", "²"):
            with pytest.raises(CtcontrolError, match="is not a digit; the digits model takes 0"):
                pictures.contexts(["1", bad])

    def test_the_sampler_is_that_of_diffusers(self, experiment: Experiment) -> None:
        """x̂₀ of the network at time k, by this package and by diffusers."""
        score = experiment.setting.mean
        assert isinstance(score, EpsilonScore)
        scheduler = DDIMScheduler(1000, beta_schedule="linear", clip_sample=False)
        scheduler.set_timesteps(10)
        x, labels = normal(4, 1, 8, 8, dtype=torch.float32), torch.tensor([1, 2, 3, 4])
        for k in (100, 500, 900):
            t = torch.full((4,), 1 - (k + 1) / 1000)
            with torch.no_grad():
                ours = denoise(score.schedule, t, x, score(t, x, labels))
                epsilon = load_denoiser()(x, torch.full((4,), k), class_labels=labels).sample
            theirs = scheduler.step(epsilon, k, x, return_dict=False)[1]
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)

    def test_another_denoiser(self, experiment: Experiment, tmp_path: Path) -> None:
        other = load_denoiser()
        with torch.no_grad():
            other.conv_out.get_parameter("bias").add_(1)
        save_denoiser(other, tmp_path / "denoiser.safetensors")
        problem = c.Digits(denoiser=str(tmp_path / "denoiser.safetensors"))
        made = build(replace(TINY, problem=problem))
        x, t, labels = torch.zeros(1, 1, 8, 8), torch.full((1,), 0.5), torch.tensor([3])
        assert isinstance(made.setting.mean, EpsilonScore)
        with torch.no_grad():
            gap = made.setting.mean(t, x, labels) - experiment.setting.mean(t, x, labels)
        sigma = float(made.setting.mean.schedule.sigma(t))
        torch.testing.assert_close(gap, torch.full_like(gap, -1 / sigma), rtol=1e-2, atol=1e-2)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"eta": 0.0}, "problem.eta must be"),
            ({"eta": 1.5}, "eta must lie in"),
            ({"floor": 0.0}, "problem.floor must be"),
            ({"floor": 1.0}, "floor must lie in"),
            ({"kl_weight": -1.0}, "kl_weight must be"),
            ({"reward": "alignmen"}, "did you mean 'alignment'"),
            ({"denoiser": "nowhere.safetensors"}, "nowhere.safetensors"),
        ],
    )
    def test_what_cannot_be_built(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(CtcontrolError, match=message):
            build(replace(TINY, problem=c.Digits(**changes)))


class TestEvaluation:
    def test_the_table_before_training(self, experiment: Experiment) -> None:
        calls: list[tuple[int, int]] = []
        rows = experiment.setting.evaluate(experiment.setting.mean, lambda *n: calls.append(n))
        assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
        cells = itertools.product(["SDE", "ODE"], [2, 4])
        assert [r.labels for r in rows] == [{"sampler": s, "steps": n} for s, n in cells]
        for r in rows:
            assert ("kl" in r.numbers) == (r.labels["sampler"] == "SDE")
            assert r.numbers.get("kl", (0.0, 0.0)) == (0.0, 0.0)
            assert r.numbers["frechet"][0] > 0
            assert 0 <= r.numbers["accuracy"][0] <= 1
            assert r.numbers["reward"][0] < 0  # a log-probability
        again = experiment.setting.evaluate(experiment.setting.mean, quiet)
        assert [r.numbers for r in again] == [r.numbers for r in rows]

    def test_the_kl_of_a_shifted_score(self, experiment: Experiment) -> None:
        """A score that is off by δ everywhere is ½ Σ (gain/std)² 64 δ² nats away."""
        mean, shift = experiment.setting.mean, 0.03
        rows = experiment.setting.evaluate(lambda t, x, c: mean(t, x, c) + shift, quiet)
        assert isinstance(mean, EpsilonScore)
        schedule = mean.schedule
        for r in rows[:2]:
            times = TimeGrid.uniform(experiment.setting.problem.horizon, int(r.labels["steps"]))
            _, gain, std = DDIM(1.0).coefficients(schedule, times.times[:-1], times.times[1:])
            expected = float(0.5 * ((gain / std) ** 2).sum() * 64 * shift**2)
            kl, error = r.numbers["kl"]
            assert kl == pytest.approx(expected, rel=1e-3)
            assert error is not None
            assert error < 1e-3 * kl

    def test_kl_is_measured_once_weights_differ(self) -> None:
        changed = build(TINY)
        with torch.no_grad():
            next(p for p in changed.setting.mean.parameters() if p.requires_grad).mul_(1.3)
        rows = changed.setting.evaluate(changed.setting.mean, quiet)
        assert all(r.numbers["kl"][0] > 0 for r in rows[:2])

    def test_facts(self, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
        """Against the same samples, counted here, and an error bar by the bootstrap."""
        monkeypatch.setattr(digits, "YARDSTICK_IMAGES", 600)
        setting, calls = experiment.setting, list[tuple[int, int]]()
        found = setting.facts(lambda *n: calls.append(n))
        assert calls == [(1, 1)]
        assert set(found.texts) == set(found.numbers) == {"ideal_kl", "base_accuracy"}
        path = simulate(
            replace(setting.problem, regularizer=None),
            GaussianPolicy(setting.mean),
            TimeGrid.uniform(setting.problem.horizon, 4),
            600,
            generator=seeded(digits.EVALUATION_SEED),
            solver=DDIM(1.0),
        )
        assert setting.pictures is not None
        with torch.no_grad():
            images = setting.pictures.decode(path.final, path.context)
            drawn = load_classifier("judge")(2 * images - 1).argmax(1)
        labels = path.context
        assert isinstance(labels, Tensor)
        shares = torch.stack([(drawn[labels == k] == k).double().mean() for k in range(10)])
        assert 0.05 < float(shares.min()) < float(shares.max()) < 1
        kl, error = found.numbers["ideal_kl"]
        assert kl == pytest.approx(float(-shares.log().mean()), abs=1e-5)
        right = float((drawn == labels).double().mean())
        assert found.numbers["base_accuracy"][0] == pytest.approx(right, abs=1e-6)
        again = torch.distributions.Binomial(60, shares).sample(torch.Size([4000])) / 60
        spread = float(again.clamp_min(1 / 120).log().mean(1).std())
        assert error == pytest.approx(spread, rel=0.3)

    def test_about_half_of_what_the_base_model_draws_is_right(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digits, "YARDSTICK_IMAGES", 400)
        accuracy, error = build(c.Config()).setting.facts(quiet).numbers["base_accuracy"]
        assert 0.35 < accuracy < 0.65
        assert error is not None
        assert 0.01 < error < 0.03
