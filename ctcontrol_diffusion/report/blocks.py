"""The blocks that pages are made of; every text given is plain and becomes safe HTML."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ctcontrol_diffusion.report.tiles import Tiles, strip


@dataclass(frozen=True)
class Card:
    """A headline number.

    Attributes:
        name: what it is.
        value: as text.
        error: after it, as text, or nothing.
        before: what it was, as text, or nothing.
        note: small print.
    """

    name: str
    value: str
    error: str = ""
    before: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table with parts, such as before and after.

    Attributes:
        name: over the parts.
        parts: names of the parts; empty for a single one.
    """

    name: str
    parts: tuple[str, ...] = ()


def section(title: str, *blocks: str) -> str:
    """A heading and what is below it; nothing if there is nothing."""
    body = "\n".join(block for block in blocks if block)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def note(text: str) -> str:
    """A sentence in small print."""
    return f'<p class="note">{escape(text)}</p>'


def cards(some: Iterable[Card]) -> str:
    """Headline numbers side by side."""
    return f'<div class="cards">{"".join(map(_card, some))}</div>'


def _card(card: Card) -> str:
    before = f'<span class="from">{escape(card.before)} → </span>' if card.before else ""
    error = f' <span class="error">{escape(card.error)}</span>' if card.error else ""
    small = f'<span class="note">{escape(card.note)}</span>' if card.note else ""
    return (
        f'<div class="card"><div class="name">{escape(card.name)}</div>'
        f'<div class="value">{before}{escape(card.value)}{error}</div>{small}</div>'
    )


def table(
    labels: Sequence[str],
    columns: Sequence[Column],
    rows: Iterable[tuple[Sequence[str], Sequence[str]]],
) -> str:
    """Label columns, then measured ones.

    Args:
        labels: names of the label columns.
        columns: the measured ones.
        rows: (labels, cells), one cell for every part of every column.
    """
    split = any(column.parts for column in columns)
    span = ' rowspan="2"' if split else ""
    top = "".join(f'<th class="label"{span}>{escape(label)}</th>' for label in labels)
    low = ""
    for column in columns:
        wide = f' colspan="{len(column.parts)}"' if column.parts else span
        top += f'<th class="last"{wide}>{escape(column.name)}</th>'
        low += "".join(
            f'<th class="sub{" last" if part == column.parts[-1] else ""}">{escape(part)}</th>'
            for part in column.parts
        )
    head = f"<tr>{top}</tr>" + (f"<tr>{low}</tr>" if split else "")
    kinds = [kind for column in columns for kind in _kinds(column)]
    body = "".join(
        "<tr>"
        + "".join(f'<td class="label">{escape(label)}</td>' for label in names)
        + "".join(
            f'<td class="{kind}">{escape(cell)}</td>'
            for kind, cell in zip(kinds, cells, strict=True)
        )
        + "</tr>"
        for names, cells in rows
    )
    return (
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
        if body
        else ""
    )


def _kinds(column: Column) -> list[str]:
    return ["quiet"] * (len(column.parts) - 1) + ["last"]


def facts(some: Iterable[tuple[str, str, str]]) -> str:
    """(name, value, what it is)."""
    body = "".join(
        f"<dt>{escape(name)}: {escape(value)}</dt><dd>{escape(text)}</dd>"
        for name, value, text in some
    )
    return f"<dl>{body}</dl>" if body else ""


def code(text: str) -> str:
    """A command or a listing."""
    return f"<pre>{escape(text)}</pre>"


def details(summary: str, *blocks: str) -> str:
    """Folded away until asked for."""
    body = "\n".join(blocks)
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def side_by_side(before: Tiles, after: Tiles, titles: tuple[str, str]) -> str:
    """Images of two policies from the same noise, a prompt a row."""
    head = "".join(f'<div class="head">{escape(text)}</div>' for text in ("", *titles))
    rows = "".join(
        f'<div class="prompt">{escape(prompt)}</div>'
        + picture(strip(before.row(k)), f"{titles[0]}: images for the prompt {prompt}")
        + picture(strip(after.row(k)), f"{titles[1]}: images for the prompt {prompt}")
        for k, prompt in enumerate(before.prompts)
    )
    return f'<div class="samples">{head}{rows}</div>'


def film(tiles: Tiles, what: str) -> str:
    """Images in the order of time, a prompt a row."""
    rows = "".join(
        f'<div class="prompt">{escape(prompt)}</div>'
        + picture(strip(tiles.row(k)), f"{what} for the prompt {prompt}")
        for k, prompt in enumerate(tiles.prompts)
    )
    return f'<div class="film">{rows}</div>'


def picture(png: bytes, alt: str) -> str:
    """An image inside the page itself."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
