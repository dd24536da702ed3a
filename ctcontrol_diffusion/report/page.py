"""One self-contained HTML page: no scripts, no network, light or dark as the reader has it."""

from html import escape
from importlib.resources import files


def page(title: str, lead: str, *blocks: str) -> str:
    """A whole document.

    Args:
        title: the heading, plain text.
        lead: a sentence below it, plain text.
        blocks: HTML from `ctcontrol_diffusion.report.blocks`.
    """
    style = (files("ctcontrol_diffusion.report") / "page.css").read_text("utf-8")
    body = "\n".join(block for block in blocks if block)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
</header>
{body}
</main>
</body>
</html>
"""
