"""README.md beside published weights, in the form that model hubs read."""

import json
from pathlib import Path

from ctcontrol_diffusion.config import LQ
from ctcontrol_diffusion.publish import Published
from ctcontrol_diffusion.run.config_file import config_to_json
from ctcontrol_diffusion.run.directory import RunDirectory
from ctcontrol_diffusion.run.files import to_json
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.table import compare
from ctcontrol_diffusion.run.wording import pair, plain

CARD = "README.md"
NAMES = {"ctrl": "score as action (CTRL)", "ddpo": "DDPO", "pathwise": "pathwise gradients"}


def card(directory: RunDirectory, iterations: int, published: Published, name: str) -> str:
    """What the weights are, how they were made and measured, and how to load them.

    Args:
        directory: of the run.
        iterations: of the checkpoint.
        published: what was written.
        name: of the folder.
    """
    config = directory.config
    records = [r for r in directory.metrics.read() if r["iteration"] <= iterations]
    reward = "return" if isinstance(config.problem, LQ) else config.problem.reward
    lines = [
        *front_matter(published),
        f"# {name}",
        "",
        f"{_made_of(published)} fine-tuned by reinforcement learning: {NAMES[config.algorithm]}, "
        f"{iterations} iterations of {config.rollout.batch} images with {config.rollout.steps} "
        f"steps, for the reward `{reward}` and against path KL to the pretrained model.",
        "",
        *usage(published, name),
        "## Training",
        "",
        "```sh",
        directory.command,
        "```",
        "",
        *_progress(records),
        *_evaluation(directory),
        "## Every choice",
        "",
        "```json",
        to_json(config_to_json(config), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def front_matter(published: Published) -> list[str]:
    """The YAML that hubs read."""
    lines = ["---", "tags:", "- reinforcement-learning", "- ctcontrol"]
    if published.kind != "denoiser":
        lines += ["- diffusers", *(["- lora"] if published.kind == "lora" else [])]
        lines.append("library_name: diffusers")
        if not Path(published.base).expanduser().exists():
            lines.append(f"base_model: {json.dumps(published.base)}")
    return [*lines, "---", ""]


def usage(published: Published, name: str) -> list[str]:
    """How to load it, and how that was seen to work."""
    language = "sh" if published.kind == "denoiser" else "python"
    code = published.usage.replace("{folder}", name)
    checked = published.sentence()
    return [f"```{language}", code, "```", "", f"{checked[0].upper()}{checked[1:]}.", ""]


def _made_of(published: Published) -> str:
    what = {"lora": "LoRA adapters of", "pipeline": "The pipeline", "denoiser": "The model"}
    return f"{what[published.kind]} `{published.base}`"


def _progress(records: list[Record]) -> list[str]:
    """The first and the last rollout in numbers."""
    if not records:
        return []
    first, last = records[0], records[-1]
    lines = ["| rollout | images | reward | KL (nats) |", "|---|---|---|---|"]
    for record in (first, last) if last is not first else (first,):
        numbers = (pair(record[key]["mean"], record[key]["stderr"]) for key in _MEASURED)
        lines.append(f"| {record['iteration'] + 1} | {record['images']} | {' | '.join(numbers)} |")
    return [*lines, ""]


_MEASURED = ("reward", "divergence")


def _evaluation(directory: RunDirectory) -> list[str]:
    """The table of the run's evaluation, which is that of its end."""
    both = compare(directory.evaluation())
    if not both.rows:
        return []
    head = [*map(plain, both.labels)]
    for number in both.numbers:
        head += [f"{plain(number)}, before", "after"]
    lines = ["## Before and after the whole run", "", f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * len(head))
    for labels, cells in both.rows:
        values = [pair(*side) for cell in cells for side in cell]
        lines.append(f"| {' | '.join([*labels, *values])} |")
    return [*lines, ""]
