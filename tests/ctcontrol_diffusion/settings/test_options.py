"""Every option of a diffusers model does something, or is there to change nothing."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.check import check_config
from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd

CHANGES: dict[str, dict[str, list[Any]]] = {
    "text": {
        "prompts": ["animals*activities"],
        "held_out": [0.5],
        "images_per_prompt": [1],
        "negative_prompt": ["blurred"],
        "guidance": [1.0, 7.5],
        "guidance_gradient": ["prompted"],
        "reward": ["symmetry"],
        "kl_weight": [0.3, 0.0],
        "sampler": ["euler", "exponential"],
        "eta": [0.5],
        "data_variance": [0.5],
        "floor": [0.1],
        "resolution": [32],
        "trained": ["all"],
        "lora_rank": [2],
        "lora_alpha": [1.0],
        "precision": ["bfloat16"],
        "gradient_checkpointing": [True],
    },
    "pixels": {
        "reward": ["symmetry"],
        "kl_weight": [0.3, 0.0],
        "sampler": ["euler", "exponential"],
        "eta": [0.5],
        "data_variance": [1.0],
        "floor": [0.1],
        "trained": ["lora"],
        "precision": ["bfloat16"],
    },
}
LORA = {"lora_rank": [2]}
NUMBERS_STAY = {"gradient_checkpointing"}
EVALUATED = {"schedulers", "features", "real"}


def base(kind: str, model: str, **changes: Any) -> c.Config:
    settings: dict[str, Any] = {"model": model, "reward": "brightness", "kl_weight": 0.1}
    if kind == "text":
        settings |= {"precision": "float32", "gradient_checkpointing": False, "guidance": 3.0}
        problem = c.StableDiffusion(**settings | changes)
    else:
        problem = c.Cifar10(**settings | changes)
    return c.Config(
        problem=problem,
        threads=1,
        rollout=c.Rollout(steps=2, batch=4),
        update=c.Update(minibatch=4, share=1.0, advantage_decay=5.6, warmup=0, learning_rate=1e-2),
        critic=c.Critic(minibatch=4, width=8, policy_waits=0, design="convolution"),
        evaluation=c.Evaluation(steps=(2,), images=4, grid=2),
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"text": tiny_sd(folder / "text"), "pixels": tiny_pixels(folder / "pixels")}


def two(config: c.Config) -> list[float]:
    """What two iterations saw."""
    iterations = build(check_config(config)).iterations()
    seen = [next(iterations) for _ in range(2)]
    return [
        number
        for i in seen
        for number in (i.returns.mean, i.reward.mean, i.divergence.mean, i.policy_loss)
    ]


@pytest.fixture(scope="module")
def usual(models: dict[str, str]) -> dict[str, list[float]]:
    return {kind: two(base(kind, model)) for kind, model in models.items()}


@pytest.mark.parametrize(
    ("kind", "of", "elsewhere"),
    [
        ("text", c.StableDiffusion, EVALUATED),
        ("pixels", c.Cifar10, EVALUATED | LORA.keys()),
    ],
)
def test_every_option_is_here(kind: str, of: type[Any], elsewhere: set[str]) -> None:
    assert {f.name for f in fields(of)} - {"model"} == CHANGES[kind].keys() | elsewhere
    hints = get_type_hints(of)
    for name, values in CHANGES[kind].items():
        options = {o for o in get_args(hints[name]) if isinstance(o, str)}
        default = {getattr(base(kind, "").problem, name)}
        missing = options - set(values) - default
        assert missing <= {"flow-sde"}, f"{name}: {missing}"  # of flow matching alone


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(k, name, value) for k in CHANGES for name, values in CHANGES[k].items() for value in values],
)
def test_an_option_does_something(
    kind: str, name: str, value: Any, models: dict[str, str], usual: dict[str, list[float]]
) -> None:
    seen = two(base(kind, models[kind], **{name: value}))
    assert all(np.isfinite(seen))
    if name in NUMBERS_STAY:
        assert seen == pytest.approx(usual[kind], rel=1e-4)
    else:
        assert seen != pytest.approx(usual[kind], rel=1e-5, abs=1e-9)


def test_the_rank_of_adapters_of_pixels(models: dict[str, str]) -> None:
    seen = [two(base("pixels", models["pixels"], trained="lora", lora_rank=r)) for r in (8, 2)]
    assert seen[0] != pytest.approx(seen[1], rel=1e-5)


def mean_colors(images: torch.Tensor) -> torch.Tensor:
    """Features that a test can name."""
    return images.mean((2, 3))


@pytest.mark.parametrize("kind", ["text", "pixels"])
def test_options_of_the_evaluation(kind: str, models: dict[str, str], tmp_path: Path) -> None:
    """Schedulers add rows, features and real images a distance."""
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", images=images)
    made = build(
        check_config(
            base(
                kind,
                models[kind],
                schedulers=("euler", "unipc"),
                features=f"{__name__}:mean_colors",
                real=str(tmp_path / "real.npz"),
            )
        )
    )
    rows = made.setting.evaluate(made.setting.mean, lambda done, total: None)
    assert [row.labels["sampler"] for row in rows] == ["SDE", "ODE", "euler", "unipc"]
    assert all("frechet" in row.numbers for row in rows)


def test_rows_of_prompts_that_are_kept_back(models: dict[str, str]) -> None:
    made = build(base("text", models["text"], held_out=0.5))
    rows = made.setting.evaluate(made.setting.mean, lambda done, total: None)
    assert [row.labels.get("prompts") for row in rows] == ["seen", "seen", "unseen", "unseen"]


def test_without_a_penalty_the_pretrained_model_is_not_asked(models: dict[str, str]) -> None:
    """Two calls a step fewer in rollouts (its guidance has two halves); evaluations measure KL."""
    calls: list[int] = []
    for weight in (0.1, 0.0):
        config = base("text", models["text"], kl_weight=weight, guidance_gradient="prompted")
        made = build(replace(config, algorithm="ddpo"))
        network: Any = made.setting.mean.network
        calls.append(0)

        def counted(*_: Any) -> None:
            calls[-1] += 1

        hook = network.register_forward_hook(counted)
        iterations = made.iterations()
        assert next(iterations).divergence.mean == 0
        hook.remove()
        next(iterations)
        rows = made.setting.evaluate(made.setting.mean, lambda done, total: None)
        assert rows[0].numbers["kl"][0] > 0
    assert calls[0] - calls[1] == 2 * config.rollout.steps
