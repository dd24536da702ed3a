"""The table for users of TRL: every option they know, and only flags that there are."""

import re
from pathlib import Path

from ctcontrol_diffusion._cli import flags
from ctcontrol_diffusion.presets import preset

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "migrate-from-trl.md"
OPTIONS = """
exp_name run_name seed log_with tracker_kwargs accelerator_kwargs project_kwargs
tracker_project_name logdir num_epochs save_freq num_checkpoint_limit mixed_precision allow_tf32
resume_from sample_num_steps sample_eta sample_guidance_scale sample_batch_size
sample_num_batches_per_epoch train_batch_size train_use_8bit_adam train_learning_rate
train_adam_beta1 train_adam_beta2 train_adam_weight_decay train_adam_epsilon
train_gradient_accumulation_steps train_max_grad_norm train_num_inner_epochs train_cfg
train_adv_clip_max train_clip_range train_timestep_fraction per_prompt_stat_tracking
per_prompt_stat_tracking_buffer_size per_prompt_stat_tracking_min_count async_reward_computation
max_workers negative_prompts push_to_hub
""".split()
"""Fields of DDPOConfig of TRL 0.23.1."""


def test_every_option_of_trl_has_its_row() -> None:
    table = PAGE.read_text().split("\n## ")[1]
    named = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert sorted(named) == sorted(OPTIONS)


def test_every_flag_is_one() -> None:
    known = {flag for flag, _ in flags(preset("sd15-jpeg-ddpo"))} | {"--run-dir", "--resume"}
    named = set(re.findall(r"--[a-z][a-z.-]*", PAGE.read_text()))
    assert named <= known, named - known


def test_values_said_of_the_preset_are_its() -> None:
    config = preset("sd15-jpeg-ddpo")
    assert config.update.log_ratio_scale == 2**-14
    assert config.update.clip == 1e-4
    assert config.rollout.steps == 50
