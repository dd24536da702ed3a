"""Prompts: where they come from, which are kept back, how each of them fares."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctcontrol import CtcontrolError, check_count

ANIMALS = (
    *("badger", "beaver", "bison", "crab", "crow", "donkey", "eagle", "elephant", "ferret"),
    *("flamingo", "gecko", "giraffe", "hamster", "heron", "lobster", "lynx", "magpie", "mole"),
    *("moose", "octopus", "otter", "owl", "panda", "parrot", "peacock", "pelican", "penguin"),
    *("pony", "puffin", "reindeer", "salmon", "seal", "snail", "sparrow", "stork", "swan"),
    *("toad", "walrus", "weasel", "yak"),
)
"""Forty animals; see `animals` of :func:`load_prompts`."""
ACTIVITIES = (
    "baking bread",
    "painting a fence",
    "playing the violin",
    "reading a newspaper",
    "rowing a boat",
    "watering flowers",
)
"""Six things that people do and animals seldom."""

_HUB = "hub:"
_COLUMNS = ("prompt", "prompts", "text", "caption")


@dataclass(frozen=True)
class Prompts:
    """Texts that differ, in a fixed order, with what else their source says of them.

    Attributes:
        texts: at least one; no text twice.
        details: name -> one entry a text, for example PartiPrompts' `Category`.

    Raises:
        CtcontrolError: for no texts, repeated texts, or details of another length.
    """

    texts: tuple[str, ...]
    details: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])

    def __post_init__(self) -> None:
        if not self.texts:
            raise CtcontrolError("a source of prompts needs at least one prompt, got none")
        if len(set(self.texts)) < len(self.texts):
            twice = next(text for text in self.texts if self.texts.count(text) > 1)
            raise CtcontrolError(f"the prompt {twice!r} is there twice; leave one")
        for name, entries in self.details.items():
            if len(entries) != len(self.texts):
                raise CtcontrolError(
                    f"details[{name!r}] of prompts needs {len(self.texts)} entries, one a prompt, "
                    f"got {len(entries)}"
                )

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, n: int, generator: torch.Generator) -> Int[Tensor, "n"]:
        """n rows, each uniform among all and independent of the others, on the CPU."""
        return torch.randint(len(self), (n,), generator=generator)

    def texts_of(self, rows: Int[Tensor, "n"]) -> list[str]:
        """The texts of some rows."""
        return [self.texts[row] for row in rows.tolist()]

    def metadata_of(self, rows: Int[Tensor, "n"]) -> dict[str, list[Any]]:
        """The details of some rows, as reward functions are given them."""
        return {
            name: [entries[row] for row in rows.tolist()] for name, entries in self.details.items()
        }

    def split(self, held_out: float, seed: int = 0) -> tuple["Prompts", "Prompts"]:
        """(seen, held out): a share of the texts, drawn by the seed, is kept back from training.

        Both keep the order; no text is in both, and neither is empty.

        Raises:
            CtcontrolError: unless 0 < held_out < 1 and there are two prompts.
        """
        if not 0 < held_out < 1:
            raise CtcontrolError(f"the share of held-out prompts must be in (0, 1), got {held_out}")
        if len(self) < 2:
            raise CtcontrolError("one prompt cannot be split into seen and held out; give two")
        n = min(max(1, round(held_out * len(self))), len(self) - 1)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        return self._rows(sorted(order[n:])), self._rows(sorted(order[:n]))

    def _rows(self, rows: list[int]) -> "Prompts":
        details = {name: tuple(entries[i] for i in rows) for name, entries in self.details.items()}
        return Prompts(tuple(self.texts[i] for i in rows), details)


def load_prompts(source: str) -> Prompts:
    """The prompts of a source; repeated texts count once.

    Args:
        source: one of

            * `animals`, forty of them, or `activities`, six. They are this project's own: to
              compare with published curves give the path of the list that those used;
            * a path: .txt with a prompt a line; .tsv or .csv with a header, one of whose columns is
              prompt, text or caption (PartiPrompts.tsv); .json with a list of texts, or of objects
              with such an entry (ImageReward's lists); .jsonl with such an object a line (GenEval);
            * `hub:OWNER/NAME/FILE`, such a file of a data set on the hub of Hugging Face, which is
              downloaded once and kept;
            * `A*B` of two sources: every "a NOUN ACTIVITY", "an owl baking bread", with the parts
              in the details `noun` and `activity`.

    Raises:
        CtcontrolError: when there is no such list or file, the hub cannot be reached, or the file
            is not of this form.
    """
    if "*" in source:
        nouns, _, activities = source.partition("*")
        return _acting(load_prompts(nouns.strip()), load_prompts(activities.strip()))
    own = {"animals": ANIMALS, "activities": ACTIVITIES}
    if source in own:
        return Prompts(own[source])
    path = _downloaded(source) if source.startswith(_HUB) else Path(source).expanduser()
    if not path.is_file():
        raise CtcontrolError(
            f"no prompts called {source!r}; there are {' and '.join(own)}, two sources as A*B, "
            f"{_HUB}OWNER/NAME/FILE, and the paths of {', '.join(_READERS)} files"
        )
    if path.suffix.lower() not in _READERS:
        raise CtcontrolError(
            f"prompts are read from {', '.join(_READERS)} files, got {str(path)!r}; rename or "
            "convert it"
        )
    try:
        return _distinct(_READERS[path.suffix.lower()](path), path)
    except (OSError, ValueError, csv.Error) as error:  # of decoding and of JSON too
        raise CtcontrolError(f"the prompts {path} cannot be read: {error}") from error


def _downloaded(source: str) -> Path:
    """A file of a data set on the hub, in the cache of `huggingface_hub`."""
    from huggingface_hub import hf_hub_download

    owner, _, rest = source.removeprefix(_HUB).partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise CtcontrolError(
            f"prompts of the hub are named {_HUB}OWNER/NAME/FILE, got {source!r}; for example "
            f"{_HUB}nateraw/parti-prompts/PartiPrompts.tsv"
        )
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file, repo_type="dataset"))
    except (OSError, ValueError) as error:  # its own errors are kinds of these
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CtcontrolError(
            f"cannot download {file} of the data set {owner}/{name} ({reason}); go online, or give "
            "the path of a copy"
        ) from error


def _lines(path: Path) -> list[Any]:
    return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]


def _table(path: Path) -> list[Any]:
    tabs = path.suffix.lower() == ".tsv"  # where quotes are part of the text
    quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if tabs else ",", quoting=quoting))


def _json(path: Path) -> list[Any]:
    held = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(held, list):
        raise CtcontrolError(f"{path} must hold a list of prompts, got {type(held).__name__}")
    return held


def _json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in _lines(path)]


_READERS: dict[str, Callable[[Path], list[Any]]] = {
    ".txt": _lines,
    ".tsv": _table,
    ".csv": _table,
    ".json": _json,
    ".jsonl": _json_lines,
}


def _distinct(entries: list[Any], path: Path) -> Prompts:
    rows: dict[str, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        text, details = _parts(entry)
        if text is None:
            raise CtcontrolError(
                f"entry {number} of {path} has no prompt; it needs a text, or one under the name "
                f"{', '.join(_COLUMNS)}"
            )
        rows.setdefault(text, details)
    if not rows:
        raise CtcontrolError(f"{path} holds no prompts")
    names = dict.fromkeys(name for details in rows.values() for name in details)
    details = {name: tuple(row.get(name) for row in rows.values()) for name in names}
    return Prompts(tuple(rows), details)


def _parts(entry: Any) -> tuple[str | None, Mapping[str, Any]]:
    if isinstance(entry, str):
        return entry.strip() or None, {}
    if not isinstance(entry, dict):
        return None, {}
    column = next((c for name in _COLUMNS for c in entry if str(c).lower() == name), None)
    text = entry.get(column)
    if not isinstance(text, str) or not text.strip():
        return None, {}
    return text.strip(), {str(k): v for k, v in entry.items() if k not in (column, None)}


def _acting(nouns: Prompts, activities: Prompts) -> Prompts:
    pairs = [(noun, activity) for noun in nouns.texts for activity in activities.texts]
    texts = tuple(f"{_article(noun)} {noun} {activity}" for noun, activity in pairs)
    return Prompts(
        texts, {"noun": tuple(n for n, _ in pairs), "activity": tuple(a for _, a in pairs)}
    )


def _article(noun: str) -> str:
    return "an" if noun[0].lower() in "aeiou" else "a"


@dataclass(frozen=True)
class PromptStatistics:
    """What the samples of one prompt were worth.

    Attributes:
        prompt: the text.
        count: of samples.
        mean, least, most: of their rewards, in the reward's unit.
        std: with count − 1 in the denominator; 0 for one sample.
    """

    prompt: str
    count: int
    mean: float
    std: float
    least: float
    most: float


def prompt_statistics(
    prompts: Sequence[str], rewards: Float[Tensor, "n"]
) -> list[PromptStatistics]:
    """One entry for every prompt that was sampled, the worst mean first.

    A mean over all prompts hides the ones that a reward has given up.

    Raises:
        CtcontrolError: unless there is one reward a prompt, and one at least.
    """
    check_count("number of samples", len(prompts))
    if rewards.shape != (len(prompts),):
        raise CtcontrolError(
            f"{len(prompts)} prompts need as many rewards, got shape {tuple(rewards.shape)}"
        )
    rows: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(i)
    values = rewards.detach().double().cpu()
    found = [_statistics(prompt, values[row]) for prompt, row in rows.items()]
    return sorted(found, key=lambda entry: (entry.mean, entry.prompt))


def _statistics(prompt: str, values: Tensor) -> PromptStatistics:
    std = float(values.std()) if len(values) > 1 else 0.0
    return PromptStatistics(
        prompt, len(values), float(values.mean()), std, float(values.min()), float(values.max())
    )
