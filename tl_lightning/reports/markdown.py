"""Tables as Markdown."""

from collections.abc import Sequence
from html import escape

from tl_lightning.printable import printable


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a name in it can neither end a cell nor begin a tag."""
    lines = [columns, ["---"] * len(columns), *([_cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return escape(printable(text), quote=False).replace("|", "\\|")
