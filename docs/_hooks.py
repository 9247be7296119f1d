"""The README and CONTRIBUTING as pages of the site, with links that lead where they lead on a hub of repositories."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: Any) -> Files:
    """The site's files with the two pages that lie above docs/."""
    for name, page in _PAGES.items():
        text = (_ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r'(\]\(|src=")docs/', r"\1", text)
        files.append(File.generated(config, page, content=_within_site(text, "")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page of docs/ with links to those two."""
    return _within_site(markdown, "../")


def _within_site(text: str, up: str) -> str:
    for name, page in _PAGES.items():
        text = text.replace(f"]({up}{name}", f"]({page}")
    return text
