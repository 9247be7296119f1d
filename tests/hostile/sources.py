"""Images that tables name, and images in shards, as other people write them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.hostile.case import SMALL, Case, photos

ROWS = [(f"{k}/{i}.png", k) for k in "ab" for i in range(6)]


def _table(head: str, rows: Sequence[Sequence[object]], words: tuple[str, ...], folder: Path) -> list[str]:
    """Photos, a table of them beside them, and a secret outside."""
    photos(folder / "photos")
    photos(folder / "elsewhere")
    lines = [head, *(",".join(map(str, row)) for row in rows)]
    (folder / "photos" / "t.csv").write_text("\n".join(lines).replace("HERE", str(folder)) + "\n")
    return [f"data.file={folder / 'photos' / 't.csv'}", *SMALL, *words]


def _shard(name: str, members: Sequence[tuple[str, bytes]], words: tuple[str, ...], folder: Path) -> list[str]:
    """Photos as a tar file, and some members more."""
    root = photos(folder / "photos")
    with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for path, label in ROWS:
            for member, data in ((path.replace("/", "-"), (root / path).read_bytes()),
                                 (path.replace("/", "-").replace("png", "cls"), label.encode())):  # fmt: skip
                _add(archive, member, data)
        for member, data in members:
            _add(archive, member, data)
    return ["data=webdataset", f"data.shards={folder / name}", *(w for w in SMALL if w != "data.cache=off"), *words]


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


HEAD = "path,label"
# name: (first line, rows, words, exit code, what is said)
TABLES = {
    "paths and labels": (HEAD, ROWS, (), 0, "path for the path, label for the label"),
    "names without endings": (HEAD, [(p[:-4], c) for p, c in ROWS], ("data.path=path",), 0, "val +accuracy"),
    "backslashes": (HEAD, [(p.replace("/", "\\"), c) for p, c in ROWS], (), 0, "val +accuracy"),
    "a file that is gone": (HEAD, [*ROWS, ("a/none.png", "a")], (), 0, "none.png in row 13"),
    "a file that is gone, and none may": (HEAD, [*ROWS, ("a/none.png", "a")], ("data.on_error=raise",), 1, "none.png in row 13"),
    "a path out of the folder": (HEAD, [*ROWS, ("../elsewhere/a/0.png", "a")], (), 1, "is not below"),
    "a path out of the folder by backslashes": (HEAD, [*ROWS, ("a\\..\\..\\elsewhere\\a\\0.png", "a")], (), 1, "is not below"),
    "an absolute path out of a named root": (HEAD, [*ROWS, ("HERE/elsewhere/a/0.png", "a")], ("data.root=photos",), 1,
                                             "is not below|does not exist"),
    "a path with two labels": (HEAD, [*ROWS, ("a/0.png", "b")], (), 1, "'a' in row 1 and 'b' in row 13"),
    "a path twice": (HEAD, [*ROWS, ("a/0.png", "a")], (), 0, "named more than once"),
    "a device": (HEAD, [*ROWS, ("/dev/zero", "a")], (), 0, "is no regular file but a device"),
    "no file at all": (HEAD, [(f"c/{i}.png", "ab"[i % 2]) for i in range(12)], (), 1, "data.root="),
    "no column of paths": ("a,b,label", [(p, c, c) for p, c in ROWS], ("data.path=x",), 1, "has no column 'x'"),
    "a weight that is none": (f"{HEAD},w", [(*r, "heavy") for r in ROWS], ("data.weight=w",), 1, "row 1 has the weight 'heavy'"),
    "weights of nothing": (f"{HEAD},w", [(*r, 0) for r in ROWS], ("data.weight=w",), 1, "data.weight"),
    "more folds than groups": (f"{HEAD},who", [(*r, r[0][-5] > "2") for r in ROWS], ("data.group=who", "data.folds=3"), 1,
                               "2 groups cannot be divided into 3 parts"),
    "several classes": (HEAD, [(p, "a|b" if i % 3 == 0 else c) for i, (p, c) in enumerate(ROWS)], ("data.separator=bar",), 0, "mAP"),
}  # fmt: skip
SHARDS = {
    "as webdataset writes it": ("s.tar", (), (), 0, "val +accuracy"),
    "a member that leads out": ("s.tar", (("../../x.png", b"no image"), ("../../x.cls", b"a")), (), 0, "unreadable: .*x.png"),
    "no image": ("s.tar", (("x.png", b"nothing"), ("x.cls", b"a")), (), 0, "cannot identify image"),
    "no label": ("s.tar", (("x.png", b"nothing"),), (), 0, "val +accuracy"),
    "compressed": ("s.tar.gz", (), (), 1, "must not be compressed"),
    "a pipe": ("s.tar", (), ("data.shards=pipe:cat",), 1, "is none of .tar, .parquet"),
    "an address that does not answer": ("s.tar", (), ("data.shards=http://127.0.0.1:9/x.tar",), 1, "does not answer"),
    "an address of another kind": ("s.tar", (), ("data.shards=ftp://x/y.tar",), 1, "addresses begin with"),
    "none": ("s.tar", (), ("data.shards=/nowhere/*.tar",), 1, "there are no shards"),
}  # fmt: skip
CASES = [
    *(Case(f"images of a table: {n}", partial(_table, head, rows, words), rc, says, quick=rc == 1)
      for n, (head, rows, words, rc, says) in TABLES.items()),
    *(Case(f"shard: {n}", partial(_shard, file, more, words), rc, says, quick=rc == 1)
      for n, (file, more, words, rc, says) in SHARDS.items()),
]  # fmt: skip
