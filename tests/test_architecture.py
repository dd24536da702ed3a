"""The rules of the house that no type checker sees."""

import ast
import importlib
import inspect
import pkgutil
import re
import statistics
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ctcontrol", "ctcontrol_diffusion")
# Import names that differ from the names of the distributions that hold them.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def sources(*packages: str) -> dict[str, ast.Module]:
    """Path from the root -> syntax tree, for every source file of the packages."""
    files = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): _tree(path) for path in files}


def dotted(node: ast.expr) -> str:
    """`a.b.c` as a string; a part that is not a name becomes `?`."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, attribute):
            return f"{dotted(value)}.{attribute}"
        case _:
            return "?"


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    return ((dotted(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call))


def files_where(call: Callable[[str, ast.Call], bool]) -> set[str]:
    """The source files that make a call of some kind."""
    return {
        path
        for path, tree in sources(*PACKAGES).items()
        if any(call(name, node) for name, node in calls(tree))
    }


def imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names taken from it) for every import, wherever it stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", tuple(alias.name for alias in node.names)


def third_party(*packages: str) -> set[str]:
    """The distributions that the packages import."""
    tops = {m.split(".")[0] for tree in sources(*packages).values() for m, _ in imports(tree)}
    return {DISTRIBUTIONS.get(t, t) for t in tops - set(sys.stdlib_module_names) - set(PACKAGES)}


def modules() -> Iterator[ModuleType]:
    """Every module of both packages, imported."""
    for package in map(importlib.import_module, PACKAGES):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def test_import_contracts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS, "see `make check`"


def test_the_application_uses_public_names_only() -> None:
    private = {
        f"{path}: from {module} import {', '.join(names)}"
        for path, tree in sources("ctcontrol_diffusion").items()
        for module, names in imports(tree)
        if module.split(".")[0] == "ctcontrol"
        and any(part.startswith("_") for part in (*module.split("."), *names))
    }
    assert not private


def test_the_numerics_stand_on_few_packages() -> None:
    few = {"torch", "torchsde", "scipy", "numpy", "jaxtyping"}
    assert third_party("ctcontrol") == few | {"gymnasium"}
    needing = {path for path, tree in sources("ctcontrol").items() if _imports(tree, "gymnasium")}
    assert {Path(path).parts[:2] for path in needing} == {("ctcontrol", "gymnasium")}


def _imports(tree: ast.Module, distribution: str) -> bool:
    return any(module.split(".")[0] == distribution for module, _ in imports(tree))


def test_dependencies_are_declared_and_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["gym"]
    assert third_party(*PACKAGES) == {requirement.split(">")[0] for requirement in declared}


def test_there_is_one_loop_over_time() -> None:
    callers = files_where(lambda name, _: name.endswith(".intervals"))
    assert callers == {"ctcontrol/_loop.py"}


def test_there_is_one_training_loop() -> None:
    callers = files_where(lambda name, _: name.split(".")[-2:] == ["updater", "step"])
    assert callers == {"ctcontrol/_improve.py"}


def test_there_is_one_optimizer_step_besides_supervised_pretraining() -> None:
    places = {"ctcontrol/_updater.py", "ctcontrol_diffusion/pretrain/_fit.py"}
    assert files_where(lambda name, _: name.endswith("optimizer.step")) == places
    assert files_where(lambda name, _: name.endswith(".backward")) == places


def test_time_is_reversed_in_one_file() -> None:
    """s = 1 − t, or horizon − t, stands in the noise schedule; all else is in control time."""

    def flips(node: ast.AST) -> bool:
        match node:
            case ast.BinOp(ast.Constant(1), ast.Sub(), right):
                pass
            case ast.BinOp(left, ast.Sub(), right) if dotted(left).endswith("horizon"):
                pass
            case _:
                return False
        names = {name.id for name in ast.walk(right) if isinstance(name, ast.Name)}
        return bool(names & {"t", "t0", "t1", "time"})

    found = {
        path
        for path, tree in sources("ctcontrol_diffusion").items()
        if any(map(flips, ast.walk(tree)))
    }
    assert found == {"ctcontrol_diffusion/schedule.py"}


def test_files_are_short() -> None:
    lines = {
        path: len((ROOT / path).read_text("utf-8").splitlines())
        for path in sources(*PACKAGES, "tests", "validation")
    }
    assert {path: n for path, n in lines.items() if n > 400} == {}
    ours = [n for path, n in lines.items() if path.startswith(PACKAGES)]
    assert statistics.median(ours) <= 150


def test_what_the_type_checker_is_told_to_overlook_has_a_reason() -> None:
    """`# type: ignore[rule]  # reason`: the rule and the reason both."""
    silent = {
        f"{path}: {line.strip()}"
        for path in sources(*PACKAGES, "tests", "validation", "benchmarks")
        for line in (ROOT / path).read_text("utf-8").splitlines()
        if re.search(r"# (type|pyright): ignore(?!\[[\w, -]+\]  # \w)", line)
    }
    assert not silent


def test_nothing_seeds_the_global_generators() -> None:
    """But inside `fork_rng`, which restores them: networks know no other way to be initialized."""
    seeds = ("torch.manual_seed", "cuda.manual_seed_all", "random.seed", "set_seed")

    def seed_calls(tree: ast.AST) -> set[ast.AST]:
        found = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        return {n for n in found if dotted(n.func).endswith(seeds)}

    def forks(node: ast.AST) -> bool:
        return isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call)
            and dotted(item.context_expr.func).endswith("fork_rng")
            for item in node.items
        )

    loose = {
        path
        for path, tree in sources(*PACKAGES).items()
        if seed_calls(tree) - {c for n in ast.walk(tree) if forks(n) for c in seed_calls(n)}
    }
    assert not loose


def test_nothing_unpickles() -> None:
    """A file from elsewhere must not be able to run code."""

    def unpickles(name: str, node: ast.Call) -> bool:
        if name in ("torch.load", "np.load"):
            safe = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}[name]
            return safe not in {
                (k.arg, k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant)
            }
        return name.endswith((".read_pickle", "joblib.load"))

    assert files_where(unpickles) == set()
    modules_that_pickle = {"pickle", "dill", "cloudpickle", "joblib", "shelve"}
    imported = {m for tree in sources(*PACKAGES).values() for m, _ in imports(tree)}
    assert not imported & modules_that_pickle


def documented(owner: type | ModuleType, name: str, thing: object) -> bool:
    """Whether a thing says what it is; methods may inherit that, classes may not."""
    text = vars(thing).get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)
    return bool(text) and not text.startswith(f"{name}(")  # what a dataclass writes for itself


def test_every_public_name_says_what_it_is() -> None:
    silent: set[str] = set()
    for module in modules():
        if not inspect.getdoc(module):
            silent.add(module.__name__)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            if not documented(module, name, thing):
                silent.add(f"{module.__name__}.{name}")
            if inspect.isclass(thing):
                silent |= {
                    f"{module.__name__}.{name}.{member}"
                    for member, value in vars(thing).items()
                    if not member.startswith("_")
                    and (inspect.isfunction(value) or isinstance(value, property))
                    and not inspect.getdoc(getattr(thing, member))
                }
    assert not silent


def test_references_to_the_theory_lead_somewhere() -> None:
    """A docstring's "docs/theory, policy gradient" names a heading of docs/theory.md."""
    text = (ROOT / "docs" / "theory.md").read_text("utf-8")
    headings = tuple(h.lower() for h in re.findall(r"^## (.+)$", text, re.MULTILINE))
    lost: dict[str, str] = {}
    for path in sources(*PACKAGES):
        prose = re.sub(r"[\s#]+", " ", (ROOT / path).read_text("utf-8"))
        for section in re.findall(r"docs/theory([^).;]*)", prose):
            if not section.lower().lstrip(",: ").startswith(headings):
                lost[path] = section
    assert not lost
