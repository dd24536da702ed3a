"""What the site is made of besides its pages: API, tables of claims, links.

MkDocs calls the functions `on_…`; the others know nothing of it, and the tests use them.
"""

import ast
import importlib
import inspect
import json
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
CLAIMS = Path("docs/validation/claims.json")
COLUMNS = ("claim", "expected", "estimate ± s.e.", "tolerance", "verdict")
_MARKER = re.compile(r"^<!-- (validation|docstring|assumptions): (\S+) -->$", re.MULTILINE)
_SPAN = re.compile(r"(?<!<a)(?<!\">)(?<!<b>)<code>([A-Za-z_][\w.]*)</code>")
_UNLINKED = re.compile(r"(<(h[1-6]|pre)\b.*?</\2>)", re.DOTALL)


# --- the public names ---


@cache
def rooms() -> tuple[str, ...]:
    """The public packages, those that everything builds on first."""
    found = (path.parent for path in (ROOT / "ctcontrol").rglob("__init__.py"))
    names = (".".join(path.relative_to(ROOT).parts) for path in found)
    return tuple(sorted(names, key=lambda name: (".exact" in name, name)))


def tree(module: str) -> ast.Module:
    """The syntax tree of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text("utf-8"))


def docstring(module: str) -> str:
    """The docstring of a module or package."""
    return ast.get_docstring(tree(module)) or ""


@cache
def exported(room: str) -> dict[str, str]:
    """Name -> module, for what a room exports and no other room does."""
    lines = (node for node in tree(room).body if isinstance(node, ast.ImportFrom))
    inner = (node for node in lines if (node.module or "").startswith(f"{room}._"))
    return {alias.name: node.module or "" for node in inner for alias in node.names}


@cache
def public() -> dict[str, str]:
    """Name -> dotted path of every public class, function and type."""
    names: dict[str, str] = {}
    for room in rooms():
        names[room] = room
        for name in exported(room):
            names.setdefault(name, f"{room}.{name}")
    return names


@cache
def resolve(code: str) -> str | None:
    """The dotted path of what is written as `Name`, `Name.member` or `ctcontrol.….Name`.

    A member that has no entry of its own leads to its class. None: no public thing has that name.

    Raises:
        AttributeError: a public thing of that name has no such member.
    """
    path, *members = _split(code)
    if not path or not members:
        return path or None
    room, name = path.rsplit(".", 1)
    thing = getattr(importlib.import_module(room), name)
    for member in members:
        if member not in {*dir(thing), *_fields(thing)}:
            raise AttributeError(f"{path} has no {member}")
        for base in getattr(thing, "__mro__", ()):
            home = public().get(base.__name__)
            if member in vars(base) and home and not member.startswith("_"):
                value = inspect.unwrap(vars(base)[member]) if callable(vars(base)[member]) else None
                entry = value or isinstance(vars(base)[member], property | classmethod)
                return f"{home}.{member}" if entry else path
    return path


def _split(code: str) -> list[str]:
    """The dotted path of the public thing at the head of a name, and the members behind it."""
    if not code.startswith("ctcontrol"):
        head, *members = code.split(".")
        return [public().get(head, ""), *members]
    room = next((r for r in sorted(rooms(), key=len, reverse=True) if _within(code, r)), None)
    if room is None or code == room:
        return [room or ""]
    name, *members = code.removeprefix(f"{room}.").split(".")
    inner = next((r for r in rooms() if name in exported(r) and _within(r, room)), None)
    return [f"{inner}.{name}" if inner else "", *members]


def _within(path: str, room: str) -> bool:
    return f"{path}.".startswith(f"{room}.")


def _fields(thing: Any) -> set[str]:
    return {
        name for base in getattr(thing, "__mro__", ()) for name in inspect.get_annotations(base)
    }


# --- pages that are made ---


_QUIET = ("members", "show_root_heading")


def api_page(room: str) -> str:
    """Everything that a room exports, under the first line of the module that defines it."""
    lines = [f"# {room} {{#room-{room}}}", "", f"::: {room}", "    options:"]
    lines += [f"      {option}: false" for option in _QUIET] + [""]
    seen = ""
    for name, module in exported(room).items():
        if module != seen:
            lines += [f"## {docstring(module).splitlines()[0].rstrip('.')}", ""]
            seen = module
        lines += [f"::: {room}.{name}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)


def on_config(config: "MkDocsConfig") -> None:
    """The API pages come before the design."""
    assert config.nav is not None
    at = next(i for i, entry in enumerate(config.nav) if "Design" in entry)
    config.nav.insert(at, {"API": [{room: f"api/{room}.md"} for room in rooms()]})


def on_files(files: "Files", config: "MkDocsConfig") -> None:
    """Adds the API pages, and the pages of the root of the project."""
    from mkdocs.structure.files import File

    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=api_page(room)))
    for name, page in OUTSIDE.items():
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Puts tables where a page asks for them, and leads to pages from outside docs/."""
    here = posixpath.dirname(page.file.src_uri)
    for name, target in OUTSIDE.items():
        markdown = re.sub(rf"\]\((\.\./)+{name}", f"]({posixpath.relpath(target, here)}", markdown)
    return _MARKER.sub(lambda found: _insert(found[1], found[2], here), markdown)


def _insert(kind: str, name: str, here: str) -> str:
    if kind == "docstring":
        return docstring(name)
    if kind == "assumptions":
        return _plain(record()["theorems"].get(name, {}).get("assumptions", ""))
    folder = posixpath.relpath("validation", here)
    return summary(posixpath.relpath("theory", here)) if name == "all" else claims(name, folder)


# --- claims ---


@cache
def record() -> dict[str, Any]:
    """What the last validation wrote."""
    return json.loads((ROOT / CLAIMS).read_text("utf-8"))


def summary(folder: str) -> str:
    """How many claims of every theorem hold."""
    lines = ["| theorem | claims that hold | seconds |", "|---|---:|---:|"]
    total, good = 0, 0
    for theorem, about in record()["theorems"].items():
        passed = [claim["passed"] for claim in record()["claims"] if claim["theorem"] == theorem]
        total, good = total + len(passed), good + sum(passed)
        link = f"[{about['title']}]({folder}/{theorem}.md)"
        lines.append(f"| {link} | {sum(passed)} of {len(passed)} | {about['seconds']:.0f} |")
    lines.append(f"| all | {good} of {total} | |")
    return "\n".join([*lines, "", f"Made by `{record()['command']}`."])


def claims(theorem: str, folder: str) -> str:
    """The table and the figure of one theorem."""
    from validation._report import Claim
    from validation._write import cells

    about = record()["theorems"].get(theorem)
    if about is None:
        return f"*Not in `{CLAIMS}` yet: `python -m validation {theorem}`.*"
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|--:|--:|--:|---|"]
    for row in record()["claims"]:
        if row["theorem"] != theorem:
            continue
        about_claim = about["claims"][row["name"]]
        numbers = (row[key] for key in ("expected", "estimate", "stderr", "tolerance"))
        claim = Claim(
            row["name"], about_claim["statement"], *numbers, relation=about_claim["relation"]
        )
        texts = (claim.statement, *cells(claim))
        lines.append(f"| {' | '.join(_plain(text) for text in texts)} |")
    figure = f"![{about['figure']}]({folder}/figures/{theorem}.png)"
    said = f"Made in {about['seconds']:.0f} s by `{record()['command']}`."
    return "\n".join([*lines, "", figure, "", said])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|*_`\[\]<$])", r"\\\1", text)


# --- links ---


def on_page_content(content: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Links code to its entry in the API, and sections of the theory."""
    parts = _UNLINKED.split(content)
    # Of three parts the second is a heading or a listing, and the third its tag.
    theory = posixpath.relpath("theory.html", posixpath.dirname(page.url) or ".")
    linked = [part if i % 3 else _linked(part, theory) for i, part in enumerate(parts)]
    return "".join(part for i, part in enumerate(linked) if i % 3 < 2)


def _linked(text: str, theory: str) -> str:
    def section(found: re.Match[str]) -> str:
        slug = re.sub(r"\W+", "-", found[2].lower())
        return f'{found[1]}<a href="{theory}#{slug}">{found[2]}</a>'

    return _SPAN.sub(_link, _sections().sub(section, text))


@cache
def _sections() -> re.Pattern[str]:
    """ "docs/theory, advantage rate" and the like, for every heading of docs/theory.md."""
    text = (ROOT / "docs" / "theory.md").read_text("utf-8")
    headings = sorted(re.findall(r"^## (.+)$", text, re.MULTILINE), key=len, reverse=True)
    names = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in headings)
    return re.compile(rf"(docs/theory[,:]\s+)({names})", re.IGNORECASE)


def _link(found: re.Match[str]) -> str:
    try:
        path = resolve(found[1])
    except AttributeError:
        path = None
    return f'<autoref identifier="{path}">{found[0]}</autoref>' if path else found[0]
