"""The frame of every report: one HTML file with inline style, script and data, written in one piece."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources

# The page may run what it carries and nothing else: a second lock beside the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escape(text: object) -> str:
    """Text that is safe in HTML, in XML and in a quoted attribute of either."""
    return html.escape(printable(str(text)), quote=True)


def printable(text: str) -> str:
    """``text`` with a mark in the place of what no file of text should hold, such as NUL."""
    return _NOT_XML.sub("\ufffd", text)


def embed_json(data: object) -> str:
    """``data`` as JSON that may stand inside a <script> element. Raises ValueError for NaN or infinity."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def read_asset(name: str) -> str:
    """The text of a style sheet or script of this package."""
    return resources.files("oneshot.report").joinpath("assets", name).read_text(encoding="utf-8")


def render_page(*, title: str, body: str, scripts: Sequence[str] = (), data: object = None) -> str:
    """The whole page: ``body`` is HTML, ``scripts`` are asset names run in order, ``data`` is their input."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{read_asset("report.css")}</style>
</head>
<body>
<main>
{body}
</main>
{_render_scripts(scripts, data) if scripts else ""}</body>
</html>
"""


def render_header(title: str, about: Mapping[str, str], verdict: str, more: str = "") -> str:
    """The head of a page: its title, what it is about, the verdict as HTML, and more HTML below it."""
    items = "".join(f"<span><b>{name}</b> {escape(value)}</span>" for name, value in about.items())
    return f"""<header>
<h1>{escape(title)}</h1>
<p class="about">{items}</p>
<p class="verdict">{verdict}</p>
{more}
</header>"""


def render_trust(notes: Sequence[str], facts: Mapping[str, str]) -> str:
    """The end of a page: how far to trust it and its facts, side by side; nothing for what is empty."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    trust = f'<section><div class="head"><h2>How far to trust this</h2></div><ul class="notes">{items}</ul></section>'
    rows = render_facts(facts)
    about = f'<section><div class="head"><h2>Facts</h2></div>{rows}</section>'
    return f'<div class="pair">{trust if items else ""}{about if rows else ""}</div>'


def render_facts(facts: Mapping[str, str]) -> str:
    """Facts as a two-column list, or nothing for none."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _render_scripts(names: Sequence[str], data: object) -> str:
    code = "\n".join(read_asset(name) for name in names)
    notice = "The charts need JavaScript; the tables and the diagram do not."
    return f"""<noscript><p class="noscript">{notice}</p></noscript>
<script type="application/json" id="report-data">{embed_json(data)}</script>
<script>
(() => {{
"use strict";
{code}}})();
</script>
"""
