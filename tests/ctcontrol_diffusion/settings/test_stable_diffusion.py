"""Text-to-image models, by tiny ones that the tests build and save themselves."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ctcontrol import CtcontrolError, GaussianPolicy, PathKL
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.guidance import GuidedScore
from ctcontrol_diffusion.models.latents import load_latent_model
from ctcontrol_diffusion.sample import main as sample
from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd, tiny_sdxl
from tests.runs import train

KINDS: dict[str, Callable[[Path], str]] = {
    "sd": tiny_sd,
    "v-prediction": lambda folder: tiny_sd(folder, "v_prediction"),
    "sdxl": tiny_sdxl,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / name) for name, make in KINDS.items()}


def config(model: str, **changes: Any) -> c.Config:
    """The smallest run."""
    settings: dict[str, Any] = {
        "reward": "brightness",
        "precision": "float32",
        "kl_weight": 1e-3,
        **changes,
    }
    return c.Config(
        problem=c.StableDiffusion(model=model, **settings),
        threads=1,
        iterations=2,
        micro_batch=3,
        rollout=c.Rollout(steps=3, batch=6),
        update=c.Update(minibatch=6, share=1.0, warmup=0, learning_rate=1e-2),
        critic=c.Critic(minibatch=6, width=8, policy_waits=0),
        evaluation=c.Evaluation(steps=(2, 3), images=5, grid=2),
    )


def test_prompts_that_training_never_saw(models: dict[str, str], tmp_path: Path) -> None:
    """Encoded when they are asked for."""
    words = f"sd15-jpeg --problem.model {models['sd']} --problem.reward brightness --device cpu"
    small = "--rollout.batch 2 --rollout.steps 2 --update.minibatch 2 --critic.minibatch 2"
    less = "--evaluation.images 3 --evaluation.steps 2 --evaluation.grid 1 --threads 1"
    run, grid = tmp_path / "run", tmp_path / "grid.png"
    assert train(*f"{words} --iterations 1 {small} {less}".split(), "--run-dir", run) == 0
    assert sample([str(run), "--prompts", "a new one,owl", "--n", "2", "--out", str(grid)]) == 0
    assert grid.is_file()


@pytest.mark.parametrize("algorithm", ["ctrl", "ddpo", "pathwise"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_trains_every_kind(
    kind: str, algorithm: Any, models: dict[str, str]
) -> None:
    made = build(replace(config(models[kind]), algorithm=algorithm))
    before = [p.detach().clone() for p in made.setting.mean.parameters()]
    first = next(made.iterations())
    assert first.updates > 0
    assert first.divergence.mean == 0, "of the pretrained model to itself"
    assert first.trajectory.final.dtype == torch.float32
    pairs = zip(before, made.setting.mean.parameters(), strict=True)
    changed = {q.requires_grad for p, q in pairs if not torch.equal(p, q)}
    assert changed == {True}, "adapters learn and nothing else does"


def _score(made: Experiment) -> GuidedScore:
    assert isinstance(made.setting.mean, GuidedScore)
    return made.setting.mean


def _rows(made: Experiment, count: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, context = made.setting.problem.initial(count, torch.Generator().manual_seed(3))
    return torch.linspace(0.1, 0.9, count), x, context


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_asked_as_the_pipeline_asks_it(kind: str, models: dict[str, str]) -> None:
    """Same noise, prompt and guidance: the first output of a pipeline of diffusers, to 1e-5."""
    made = build(config(models[kind], guidance=3.0))
    model = load_latent_model(models[kind])
    pipeline = model.pipeline
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(1))
    outputs: list[torch.Tensor] = []
    step = pipeline.scheduler.step

    def watched(output: torch.Tensor, *rest: Any, **named: Any) -> Any:
        outputs.append(output)
        return step(output, *rest, **named)

    pipeline.scheduler.step = watched
    pipeline("a seal", latents=noise.clone(), guidance_scale=3.0, num_inference_steps=2)
    time = pipeline.scheduler.timesteps[:1].float()
    score, pictures = _score(made), made.setting.pictures
    assert pictures is not None
    with torch.no_grad():
        assert torch.allclose(
            score.output(time, noise, pictures.contexts(["a seal"])), outputs[0], atol=1e-5
        )


def test_images_are_those_of_the_pipeline(models: dict[str, str]) -> None:
    """A clean latent becomes the same image."""
    model = load_latent_model(models["sd"])
    latents = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.decode(latents)
        raw = model.pipeline.vae.decode(latents / model.pipeline.vae.config.scaling_factor).sample
    theirs = model.pipeline.image_processor.postprocess(raw, output_type="pt")
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert ours.shape == (2, 3, 16, 16)


def test_sdxl_is_told_the_size_of_the_image(models: dict[str, str]) -> None:
    made = build(config(models["sdxl"], resolution=32))
    told = _score(made).table.told(torch.tensor([0, 1]))
    assert told["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * 2
    assert told["text_embeds"].shape == (2, 32)
    assert made.setting.problem.initial(1, torch.Generator())[0].shape == (1, 4, 16, 16)


def test_guidance_of_one_asks_the_prompted_network(models: dict[str, str]) -> None:
    """And w = 2 is as far beyond it as it is from the empty prompt."""
    scores = [build(config(models["sd"], guidance=w)).setting.mean for w in (1.0, 2.0, 3.0)]
    made = build(config(models["sd"]))
    t, x, context = _rows(made)
    with torch.no_grad():
        one, two, three = (score(t, x, context) for score in scores)
    assert torch.allclose(three - two, two - one, atol=1e-4)
    assert float((two - one).abs().max()) > 1e-3


def test_gradients_through_one_half_of_guidance(models: dict[str, str]) -> None:
    """Equal values; the gradient is that of w·(prompted half), and x keeps both."""
    both, one = (
        build(config(models["sd"], guidance_gradient=g, guidance=2.0)).setting.mean
        for g in ("both", "prompted")
    )
    t, x, context = _rows(build(config(models["sd"])))
    assert torch.allclose(both(t, x, context), one(t, x, context), atol=1e-5)
    half = build(config(models["sd"], guidance=1.0)).setting.mean
    found: list[torch.Tensor] = []
    for score, factor in ((both, 1.0), (one, 1.0), (half, 2.0)):
        (factor * score(t, x, context).sum()).backward()
        grads = [p.grad.flatten() for p in score.parameters() if p.grad is not None]
        found.append(torch.cat(grads))
    assert torch.allclose(found[1], found[2], rtol=1e-3, atol=1e-4)
    assert float((found[0] - found[1]).abs().max()) > 1e-2
    slopes = [
        torch.autograd.grad(score(t, y, context).sum(), y)[0]
        for score in (both, one)
        for y in [x.clone().requires_grad_()]
    ]
    assert torch.allclose(slopes[0], slopes[1], atol=1e-3)


@pytest.mark.parametrize("trained", ["lora", "all"])
def test_the_reference_stays_the_pretrained_model(trained: str, models: dict[str, str]) -> None:
    """Bit for bit, while the policy moves."""
    made = build(config(models["sd"], trained=trained))
    regularizer = made.setting.problem.regularizer
    assert isinstance(regularizer, PathKL)
    assert isinstance(regularizer.reference, GaussianPolicy)
    reference = regularizer.reference
    t, x, context = _rows(made)
    with torch.no_grad():
        before = reference.mean(t, x, context)
        assert torch.equal(made.setting.mean(t, x, context), before)
    next(made.iterations())
    with torch.no_grad():
        assert torch.equal(reference.mean(t, x, context), before)
        assert float((made.setting.mean(t, x, context) - before).abs().max()) > 1e-4


def test_recomputed_activations_give_the_same_gradient(models: dict[str, str]) -> None:
    found: list[torch.Tensor] = []
    for checkpointing in (False, True):
        made = build(config(models["sd"], gradient_checkpointing=checkpointing))
        t, x, context = _rows(made)
        made.setting.mean(t, x, context).square().sum().backward()
        grads = [p.grad.flatten() for p in made.setting.mean.parameters() if p.grad is not None]
        found.append(torch.cat(grads))
    assert torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_few_at_once_is_the_same_score(models: dict[str, str]) -> None:
    """In float64: float32 rounds otherwise in convolutions of other sizes."""
    made = build(config(models["sd"]))
    made.setting.mean.double()
    t, x, context = _rows(made, 7)
    t, x = t.double(), x.double()
    parts = made.setting.mean(t, x, context)
    _score(made).at_once = None
    assert torch.allclose(parts, made.setting.mean(t, x, context), rtol=1e-10, atol=1e-10)


def test_low_precision_stays_inside_the_network(models: dict[str, str]) -> None:
    """Frozen weights are bfloat16; what learns, and every trajectory, is float32."""
    made = build(config(models["sd"], precision="bfloat16"))
    dtypes = {p.requires_grad: p.dtype for p in made.setting.mean.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    first = next(made.iterations())
    assert first.trajectory.states.dtype == first.trajectory.means.dtype == torch.float32


def test_prompts_that_are_kept_back_are_never_drawn(models: dict[str, str]) -> None:
    made = build(config(models["sd"], held_out=0.25, images_per_prompt=4))
    generator = torch.Generator().manual_seed(0)
    _, context = made.setting.problem.initial(4000, generator)
    assert int(context.max()) < 30 < len(_score(made).table.texts) == 40
    groups = context.reshape(-1, 4)
    assert bool((groups == groups[:, :1]).all())
    counts = torch.bincount(groups[:, 0], minlength=30)
    assert int(counts.max() - counts.min()) <= 1, "every prompt equally often"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resolution": 15}, "15 does not divide by 4.*give 16"),
        ({"guidance": 0.5}, "guidance must be a finite number >= 1"),
        ({"held_out": 1.0}, r"held-out must be in \[0, 1\)"),
        ({"lora_alpha": -1.0}, "lora-alpha must be a finite number > 0"),
        ({"images_per_prompt": 0}, "images-per-prompt must be a whole number"),
        ({"prompts": "nothing"}, "no prompts called 'nothing'"),
        ({"reward": "brightnes"}, "did you mean"),
        ({"sampler": "flow-sde"}, "flow-sde is for flow-matching"),
    ],
)
def test_bad_numbers(changes: dict[str, Any], reason: str, models: dict[str, str]) -> None:
    with pytest.raises(CtcontrolError, match=reason):
        build(check_config(config(models["sd"], **changes)))


def test_bad_models(models: dict[str, str], tmp_path: Path) -> None:
    pixels = tiny_pixels(tmp_path / "pixels")
    with pytest.raises(CtcontrolError, match=r"holds a DDPMPipeline.*StableDiffusionPipeline"):
        build(config(pixels))
    painting = tiny_sd(tmp_path / "painting", in_channels=9)
    with pytest.raises(CtcontrolError, match=r"takes 9 channels.*inpainting"):
        build(config(painting))
    told = tiny_sd(tmp_path / "told", time_cond_proj_dim=8)
    with pytest.raises(CtcontrolError, match="told its guidance"):
        build(config(told))
    broken = tmp_path / "broken"
    shutil.copytree(models["sd"], broken)
    for file in (broken / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(CtcontrolError, match=r"cannot load the model.*--problem\.model"):
        build(config(str(broken)))


def test_missing_weights_say_which_and_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert train("sd15-jpeg", "--device", "cpu", "--run-dir", "nowhere") == 2
    said = capsys.readouterr().err
    assert "'stable-diffusion-v1-5/stable-diffusion-v1-5'" in said
    assert "--problem.model" in said
    assert "Traceback" not in said
