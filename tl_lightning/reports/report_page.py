"""A report as one HTML file that needs no network: pleasant on a phone, in the dark, by keyboard and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tl_lightning.reports import html

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d8dee4; --back: #fff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa6b2; --line: #30363d; --back: #0d1117; --card: #161b22; }
  .picture svg { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; color: var(--ink); background: var(--back);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .2rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
p { margin: .3rem 0; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .3rem .9rem; padding: .6rem 0; border-bottom: 1px solid var(--line); }
a { color: inherit; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 3px solid #2f81f7; outline-offset: 2px; }
section { margin: 1rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
          break-inside: avoid; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
caption { display: none; }
.picture svg { max-width: 100%; height: auto; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
.headline { display: flex; flex-wrap: wrap; gap: .6rem 2rem; }
.headline div { min-width: 8rem; }
.headline b { display: block; font-size: 1.7rem; line-height: 1.2; }
.headline span { color: var(--soft); font-size: .85rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .8rem; }
.gallery figure { margin: 0; font-size: .8rem; overflow-wrap: anywhere; }
.gallery img { width: 100%; border-radius: .4rem; display: block; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; margin: .3rem 0; }
@media print { nav { display: none; } body { max-width: none; font-size: 11px; } section { background: none; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: its title, and its HTML, in which every name is escaped."""

    title: str
    body: str

    @property
    def anchor(self) -> str:
        """What links to it say."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def report_page(title: str, said: str, sections: Sequence[Section]) -> str:
    """The whole file. `said`: a line below the title."""
    links = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    parts = "".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title"><h2 id="{s.anchor}-title">{escape(s.title)}</h2>'
        f"{s.body}</section>"
        for s in sections
    )
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
    )
    return (
        f"{head}<body><header><h1>{escape(title)}</h1><p>{escape(said)}</p></header>"
        f'<nav aria-label="sections">{links}</nav><main>{parts}</main></body></html>\n'
    )


def headline(numbers: Sequence[tuple[str, str, str]]) -> str:
    """(value, name, more) of the numbers that matter most, large."""
    return (
        '<div class="headline">'
        + "".join(f"<div><b>{escape(v)}</b>{escape(n)}<br><span>{escape(m)}</span></div>" for v, n, m in numbers)
        + "</div>"
    )


def scrolled(table: str, what: str) -> str:
    """A table that may be wider than a phone, reached by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(what)}">{table}</div>'


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows that have the same keys; what has no value is empty."""
    shown = [["" if value is None else value for value in row.values()] for row in rows]
    return scrolled(html.table(tuple(rows[0]), shown), f"table: {title}")


def details(title: str, body: str) -> str:
    """What is hidden until it is asked for."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def pictures(drawn: Iterable[str]) -> str:
    """SVGs beside one another, as many as there is room for."""
    return f'<div class="figures">{"".join(map(picture, drawn))}</div>'


def picture(drawn: str) -> str:
    """An SVG in its place."""
    return f'<div class="picture">{drawn}</div>'


def gallery(shown: Sequence[tuple[str, str, str]]) -> str:
    """(what an answer comes from: an image as a data URL, or words; the sample's name; what is said of it)."""
    figures = []
    for source, name, text in shown:
        seen = f'<img src="{source}" alt="{escape(name)}">'
        seen = seen if source.startswith("data:image/") else f"<p>{escape(source)}</p>"
        figures.append(f"<figure>{seen}<figcaption><b>{escape(text)}</b><br>{escape(name)}</figcaption></figure>")
    return f'<div class="gallery">{"".join(figures)}</div>'
