"""What was found wrong with a data set, for people: lines, and a page with small pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from tl_lightning.data.issues import Issue
from tl_lightning.printable import printable
from tl_lightning.reports import html
from tl_lightning.reports.markdown import markdown
from tl_lightning.reports.report_page import Section, details, gallery, report_page, scrolled

_NAMED, _LISTED, _SHOWN, _TABLE = 3, 20, 24, 500  # samples: in a line, in a table of the text, as pictures, of the page


def text(title: str, issues: Sequence[Issue], read: Sequence[str]) -> str:
    """Markdown: a line for each issue, then the samples of each, and what was said while the data were read."""
    parts = [f"# {printable(title)}", "", verdict(issues), ""]
    parts += [f"- **{issue.kind}**: {printable(issue.said)}; {printable(issue.remedy)}" for issue in issues]
    for issue in issues:
        if issue.samples:
            rows = [(f.path, f.note) for f in issue.samples[:_LISTED]]
            more = [f"... and {len(issue.samples) - _LISTED} more"] if len(issue.samples) > _LISTED else []
            parts += ["", f"## {issue.kind}", "", markdown(("sample", "what"), rows), *more]
    if read:
        parts += ["", "## said while reading", "", *(f"    {printable(line)}" for line in read)]
    return "\n".join(parts)


def verdict(issues: Sequence[Issue]) -> str:
    """The whole in a sentence."""
    if not issues:
        return "Nothing is wrong that can be seen."
    leaks = [issue.kind for issue in issues if issue.leaks]
    of_leaks = f"; scores of validation cannot be trusted ({', '.join(leaks)})" if leaks else ""
    return f"{len(issues)} {'kind' if len(issues) == 1 else 'kinds'} of findings{of_leaks}."


def lines(issues: Sequence[Issue]) -> list[str]:
    """A line for each issue, with its first samples, for a terminal."""
    found = []
    for issue in issues:
        first = ", ".join(f.path for f in issue.samples[:_NAMED])
        more = " ..." if len(issue.samples) > _NAMED else ""
        found.append(f"{issue.kind:<15} {issue.said}{f': {first}{more}' if first else ''}\n{'':<15} {issue.remedy}")
    return found


def page(title: str, issues: Sequence[Issue], read: Sequence[str], shown: Callable[[str], str]) -> str:
    """One HTML file; `shown`: the sample of a path, a picture as a data URL or text. Every name is escaped."""
    sections = [Section(issue.kind, _issue(issue, shown)) for issue in issues]
    if read:
        said = "".join(f"<pre>{escape(line)}</pre>" for line in read)
        sections.append(Section("Said while reading", said))
    return report_page(title, verdict(issues), sections)


def _issue(issue: Issue, shown: Callable[[str], str]) -> str:
    parts = [f"<p><b>{escape(issue.said)}</b></p><p>{escape(issue.remedy)}</p>"]
    if issue.samples:
        parts.append(gallery([(shown(f.path), f.path, f.note) for f in issue.samples[:_SHOWN]]))
        table = html.table(("sample", "what"), [(f.path, f.note) for f in issue.samples[:_TABLE]])
        parts.append(details(f"{len(issue.samples)} samples", scrolled(table, issue.kind)))
    return "".join(parts)
