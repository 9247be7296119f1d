"""Names as people may safely see them: a file's name can hold what moves a terminal's cursor, or is no Unicode."""

_LINES = ("\n", "\t")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
_IN_LINES = {code: shown for code, shown in _CONTROLS.items() if chr(code) not in _LINES}
# what makes letters run backwards, so that gpj.exe reads exe.jpg
_BACKWARDS = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}

_COMPUTED = ("=", "+", "-", "@", "\t", "\r", "'")  # how a cell begins that spreadsheets take for a formula


def printable(text: str, lines: bool = False) -> str:
    """The text with control characters and bytes that are no UTF-8 as numbers; line breaks and tabs stay in `lines`."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole.translate((_IN_LINES if lines else _CONTROLS) | _BACKWARDS)


def guarded(cell: str) -> str:
    """A cell of a table that no spreadsheet computes."""
    return f"'{cell}" if cell.startswith(_COMPUTED) else cell


def unguarded(cell: str) -> str:
    """What `guarded` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_COMPUTED) else cell
