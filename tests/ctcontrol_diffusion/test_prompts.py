"""Sources of prompts, their split, and statistics for each."""

from pathlib import Path

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.prompts import (
    ACTIVITIES,
    ANIMALS,
    Prompts,
    PromptStatistics,
    load_prompts,
    prompt_statistics,
)

LISTS = Path(__file__).parents[3] / "shared/data/prompts"


def written(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return str(path)


def test_own_lists_and_their_product() -> None:
    assert load_prompts("animals").texts == ANIMALS
    acting = load_prompts("animals * activities")
    assert len(acting) == len(ANIMALS) * len(ACTIVITIES)
    assert "an owl baking bread" in acting.texts
    row = acting.texts.index("a swan rowing a boat")
    assert acting.metadata_of(torch.tensor([row])) == {
        "noun": ["swan"],
        "activity": ["rowing a boat"],
    }


@pytest.mark.parametrize(
    ("name", "text", "details"),
    [
        ("a.txt", "a cat\n\n  a dog \na cat\n", {}),
        ("a.txt", "\ufeffa cat\r\na dog\r\n", {}),
        ("a.tsv", 'Prompt\tCategory\na cat\t"x\na dog\ty"\n', {"Category": ('"x', 'y"')}),
        ("a.csv", 'id,text\n1,"a cat"\n2,a dog\n', {"id": ("1", "2")}),
        ("a.json", '["a cat", "a dog", "a cat"]', {}),
        ("a.json", '[{"id": 3, "prompt": "a cat"}, {"prompt": "a dog"}]', {"id": (3, None)}),
        (
            "a.JSONL",
            '{"prompt": "a cat", "n": [1]}\n{"prompt": "a dog", "n": []}\n',
            {"n": ([1], [])},
        ),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, details: dict[str, object]) -> None:
    prompts = load_prompts(written(tmp_path, name, text))
    assert prompts.texts == ("a cat", "a dog")
    assert prompts.details == details


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", " \n", "holds no prompts"),
        (
            "a.tsv",
            "Words\tn\na cat\t1\n",
            "entry 1 of .* has no prompt; it needs a text, or one un",
        ),
        ("a.csv", "prompt\na cat\n' '\n", None),
        ("a.json", '{"prompt": "a"}', "must hold a list of prompts, got dict"),
        ("a.json", '["a", 3]', "entry 2 of .* has no prompt"),
        ("a.json", '[{"prompt": ""}]', "entry 1 of .* has no prompt"),
        ("a.json", "[", "cannot be read: Expecting value"),
        ("a.jsonl", '{"prompt": "a"}\n{', "cannot be read"),
        ("a.pkl", "x", r"are read from .txt, .* files, got .*a.pkl"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, text: str, message: str | None) -> None:
    source = written(tmp_path, name, text)
    if message is None:
        assert len(load_prompts(source)) == 2
        return
    with pytest.raises(CtcontrolError, match=message):
        load_prompts(source)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        CtcontrolError, match=r"no prompts called 'anmals'; there are animals and ac"
    ):
        load_prompts("anmals")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(CtcontrolError, match=r"cannot be read: .*utf-8"):
        load_prompts(str(tmp_path / "latin.txt"))
    with pytest.raises(CtcontrolError, match="at least one prompt, got none"):
        Prompts(())
    with pytest.raises(CtcontrolError, match="'a' is there twice"):
        Prompts(("a", "a"))
    with pytest.raises(
        CtcontrolError, match=r"details\['n'\] of prompts needs 1 entries, .* got 2"
    ):
        Prompts(("a",), {"n": (1, 2)})


@pytest.mark.parametrize(
    ("name", "count", "detail"),
    [
        ("ddpo_simple_animals.txt", 45, None),
        ("PartiPrompts.tsv", 1632, "Category"),
        ("imagereward_benchmark-prompts.json", 100, "id"),
        ("geneval_evaluation_metadata.jsonl", 553, "tag"),
    ],
)
def test_published_lists_load(name: str, count: int, detail: str | None) -> None:
    if not (LISTS / name).is_file():
        pytest.skip("no published prompt lists in ../shared/data")
    prompts = load_prompts(str(LISTS / name))
    assert len(prompts) == count
    assert detail is None or all(prompts.details[detail])


@pytest.mark.parametrize("share", [0.01, 0.25, 0.99])
def test_split_keeps_every_prompt_on_one_side(share: float) -> None:
    prompts = load_prompts("animals*activities")
    seen, kept = prompts.split(share, seed=3)
    assert len(kept) == round(share * len(prompts))
    assert set(seen.texts) | set(kept.texts) == set(prompts.texts)
    assert not set(seen.texts) & set(kept.texts)
    row = torch.tensor([0])
    assert kept.metadata_of(row)["noun"][0] in kept.texts[0]
    assert prompts.split(share, seed=3) == (seen, kept)
    assert prompts.split(share, seed=4) != (seen, kept)


def test_split_leaves_neither_side_empty() -> None:
    for share in (0.01, 0.99):
        assert [len(side) for side in Prompts(("a", "b")).split(share)] == [1, 1]
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(CtcontrolError, match="share of held-out prompts must be in"):
            Prompts(("a", "b")).split(share)
    with pytest.raises(CtcontrolError, match="one prompt cannot be split"):
        Prompts(("a",)).split(0.5)


def test_draws_are_uniform_and_repeat_with_the_seed(generator: torch.Generator) -> None:
    prompts = Prompts(("a", "b", "c", "d"))
    rows = prompts.draw(4000, generator)
    counts = torch.bincount(rows, minlength=4)
    assert (counts - 1000).abs().max() < 4 * (4000 * 3 / 16) ** 0.5
    again = prompts.draw(4000, torch.Generator().manual_seed(generator.initial_seed()))
    assert torch.equal(rows, again)
    assert prompts.texts_of(torch.tensor([2, 0])) == ["c", "a"]


def test_statistics_of_each_prompt_worst_first() -> None:
    rewards = torch.tensor([1.0, 5.0, 3.0, -1.0], requires_grad=True)
    worst, best = prompt_statistics(["a", "b", "a", "a"], rewards)
    assert worst == PromptStatistics("a", 3, 1.0, 2.0, -1.0, 3.0)
    assert best == PromptStatistics("b", 1, 5.0, 0.0, 5.0, 5.0)
    with pytest.raises(CtcontrolError, match=r"2 prompts need as many rewards, got shape \(3,\)"):
        prompt_statistics(["a", "b"], torch.zeros(3))
    with pytest.raises(CtcontrolError, match="number of samples"):
        prompt_statistics([], torch.zeros(0))


def test_a_list_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded by the hub's own client, and read like any other file."""
    import huggingface_hub

    (tmp_path / "lists.tsv").write_text("Prompt\tCategory\na red fox\tAnimals\n")
    asked: list[tuple[str, str, str]] = []

    def download(repository: str, file: str, *, repo_type: str) -> str:
        asked.append((repository, file, repo_type))
        return str(tmp_path / "lists.tsv")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = load_prompts("hub:some/where/data/lists.tsv")
    assert asked == [("some/where", "data/lists.tsv", "dataset")]
    assert (found.texts, found.details) == (("a red fox",), {"Category": ("Animals",)})


def test_a_list_on_the_hub_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*words: object, **named: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(CtcontrolError, match=r"x\.txt of the data set a/b \(offline mode"):
        load_prompts("hub:a/b/x.txt")
    with pytest.raises(CtcontrolError, match="OWNER/NAME/FILE, got 'hub:b/x"):
        load_prompts("hub:b/x.txt")
