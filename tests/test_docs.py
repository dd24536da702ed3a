"""The pages of the documentation are complete and lead somewhere; nothing here builds them."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from validation._run import theorems

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
# What looks like a class and is a word of the reader's, or lives in the application.
OTHER = {
    *("Config.algorithm", "NoiseSchedule", "Setting", "NAME"),
    *("DDPMPipeline", "UNet2DModel", "UNet2DConditionModel", "DiffusionPipeline.from_pretrained"),
    *("DDPOConfig", "DDPOTrainer"),
}


@cache
def hooks() -> ModuleType:
    """docs/hooks.py, which MkDocs loads by its path as well."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(page: str) -> str:
    """A page without its formulas and listings."""
    formulas = r"\$\$.*?\$\$|\$[^$`]*\$|^ {4}[^\n]*$"
    return re.sub(formulas, "", (DOCS / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def slugs(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
        for heading in headings
    }


def test_every_theorem_has_a_page_with_its_claims() -> None:
    for theorem in theorems():
        page = text(f"theory/{theorem}.md")
        assert f"<!-- validation: {theorem} -->" in page
        for part in ("**Assumptions.**", "**Why.**", "**In the code.**", "**Source.**"):
            assert part in page, (theorem, part)


def test_every_page_of_a_theorem_stands_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    missing = [page for page in PAGES if page not in navigation]
    assert not missing


def test_the_claims_shown_all_hold_and_have_figures() -> None:
    record = json.loads((ROOT / hooks().CLAIMS).read_text("utf-8"))
    assert not [claim for claim in record["claims"] if not claim["passed"]]
    for theorem in record["theorems"]:
        table = hooks().claims(theorem, "../validation")
        assert "holds" in table
        assert (DOCS / "theory" / f"../validation/figures/{theorem}.png").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_code_named_on_a_page_exists(page: str) -> None:
    """`Name`, `Name.member` and `ctcontrol.….name` in code spans are public things."""
    spans = set(re.findall(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)", text(page))) - OTHER
    named = {s for s in spans if re.match(r"[A-Z]\w*[a-z]|ctcontrol\.", s)}
    unknown = {s for s in named if hooks().resolve(s) is None}
    assert not unknown


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text(page)):
        path = (DOCS / page).parent.joinpath(target).resolve() if target else DOCS / page
        assert path.is_file(), (page, target)
        assert not anchor or anchor in slugs(path), (page, target, anchor)


def test_every_public_name_has_an_entry() -> None:
    for room in hooks().rooms():
        page = hooks().api_page(room)
        for name in hooks().exported(room):
            assert f"::: {room}.{name}\n" in page


def test_a_name_that_is_gone_is_noticed() -> None:
    assert hooks().resolve("NoSuchThing") is None
    assert hooks().resolve("GaussianTilt.moments") == (
        "ctcontrol.exact.lq.LinearQuadraticSystem.moments"
    )
    assert hooks().resolve("ctcontrol.ContinuousPPO") == "ctcontrol.algorithms.ContinuousPPO"
    with pytest.raises(AttributeError, match="no_such_member"):
        hooks().resolve("ContinuousPPO.no_such_member")


def test_the_table_of_cifar10_is_that_of_its_runs() -> None:
    from ctcontrol_diffusion.compare._outcome import BEFORE, read_outcomes
    from ctcontrol_diffusion.compare._table import table

    file = DOCS / "cifar10.json"
    content = json.loads(file.read_text("utf-8"))
    runs = read_outcomes(file, {"configs": content["configs"]})
    names = [BEFORE, *content["configs"]]
    rows = table(sorted(runs, key=lambda run: names.index(run.preset)))
    assert rows in (DOCS / "cifar10.md").read_text("utf-8")
    assert f"    {content['command']}" in re.sub(
        r" \\\n +", " ", (DOCS / "cifar10.md").read_text("utf-8")
    )
