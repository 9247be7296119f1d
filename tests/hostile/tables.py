"""Tables of texts as they are exported."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from functools import partial
from pathlib import Path

from tests.hostile.case import Case
from tests.zoo import save_language_model

TEXTS = [f"{('good', 'awful')[i % 2]} film number {i}" for i in range(30)]
LABELS = [("pos", "neg")[i % 2] for i in range(30)]


@functools.cache
def _model() -> str:
    folder = tempfile.mkdtemp(prefix="tl-tiny-")
    child = os.fork()  # whose tokenizers leave no threads here, without which later forks would wait for ever
    if child == 0:
        save_language_model(Path(folder), weights=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return folder


def _csv(labels=LABELS, texts=TEXTS, head="text,label", mark=",") -> str:
    rows = [f"{text}{mark}{label}" for text, label in zip(texts, labels, strict=True)]
    return "\n".join([head.replace(",", mark), *rows]) + "\n"


def _written(name: str, data: bytes | str, words: tuple[str, ...], folder: Path) -> list[str]:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return _said(folder / name, *words)


def _said(file: Path, *words: str) -> list[str]:
    return [f"data.file={file}", "backbone=text", f"backbone.name={_model()}", "backbone.length=16", "engine=eager",
            "strategy=linear_probe", "strategy.taps=false", "trainer=cpu", "callbacks.progress=null", *words]  # fmt: skip


def _folder(names: tuple[str, ...], folder: Path) -> list[str]:
    (folder / "d").mkdir()
    for k, name in enumerate(names):
        (folder / "d" / name).write_text(_csv(LABELS[k : k + 20], TEXTS[k : k + 20]))
    return _said(folder / "d")


GBK = _csv(["\u597d", "\u574f"] * 15, [f"\u8fd9\u90e8\u7535\u5f71\u5f88\u597d\u770b {TEXTS[i]}" for i in range(30)])
RUSSIAN = _csv(["\u0434\u0430", "\u043d\u0435\u0442"] * 15, [f"\u043e\u0447\u0435\u043d\u044c {i}" for i in range(30)])
HOT = "text,rain,wind\n" + "\n".join(f"{t},{i % 2},{i // 2 % 2}" for i, t in enumerate(TEXTS))
GOOD: dict[str, tuple[str, bytes | str, tuple[str, ...], str]] = {
    "plain": ("x.csv", _csv(), (), r"classes +neg 12, pos 12"),
    "a byte order mark": ("x.csv", _csv().encode("utf-8-sig"), (), r"classes +neg 12"),
    "UTF-16": ("x.csv", _csv().encode("utf-16"), (), r"classes +neg 12"),
    "Windows-1252": ("x.csv", _csv(["caf\u00e9", "neg"] * 15).encode("cp1252"), (), "read as Windows-1252"),
    "GBK, said": ("x.csv", GBK.encode("gbk"), ("data.encoding=gbk",), r"classes +\u574f 12|classes +\u597d 12"),
    "NUL characters": ("x.csv", _csv().replace("film", "fi\0lm"), (), "30 NUL characters"),
    "carriage returns": ("x.csv", _csv().replace("\n", "\r\n"), (), r"classes +neg 12"),
    "old Mac's line ends": ("x.csv", _csv().replace("\n", "\r"), (), r"classes +neg 12"),
    "semicolons": ("x.csv", _csv(mark=";"), (), r"classes +neg 12"),
    "tabs in .tsv, commas in its head": ("x.tsv", _csv(head="text,label", mark="\t").replace("text\t", "text, raw\t"), (),
                                         r"classes +neg 12"),
    "Excel's sep=": ("x.csv", "sep=;\n" + _csv(mark=";"), (), r"classes +neg 12"),
    "no line of names, columns by number": ("x.tsv", _csv(mark="\t").partition("\n")[2], ("data.text=0", "data.label=1"),
                                            r"classes +neg 12"),
    "no line of names, said": ("x.csv", _csv().partition("\n")[2], ("data.header=false", "data.text=0", "data.label=1"),
                               r"classes +neg 12"),
    "columns called 0 and 1": ("x.csv", _csv(head="0,1"), ("data.text=0", "data.label=1"), r"classes +neg 12"),
    "an index of pandas": ("x.csv", ",text,label\n" + "\n".join(f"{i},{t},{c}" for i, (t, c) in enumerate(
        zip(TEXTS, LABELS, strict=True))), (), r"classes +neg 12"),
    "placeholders as labels": ("x.csv", _csv(["nan", "NULL", "N/A", "None", *LABELS[4:]]), (), "'N/A' stand for none"),
    "None as a class, said": ("x.csv", _csv(["None", "some"] * 15), ("data.missing=[]",), r"classes +None 12, some 12"),
    "a class in two Unicode forms": ("x.csv", _csv(["e\u0301", "\u00e9", "b"] * 10), (), r"2 classes"),
    "1 and 1.0": ("x.csv", _csv(["1", "1.0", "cat"] * 10), (), "one number in two forms"),
    "lists of Python": ("x.csv", _csv([f'"[\'a\', \'{c}\']"' for c in LABELS]), (), r"classes +a 2\d, neg 1"),
    "lists of JSON": ("x.csv", _csv(['"[""a""]"', '"[""b"", ""c""]"'] * 15), (), r"classes +a 1\d, b 1\d, c 1"),
    "empty lists": ("x.csv", _csv(['"[""a""]"', "[]", '"[""b""]"'] * 10), (), r"classes +a \d+, b "),
    "columns of 0 and 1": ("x.csv", HOT, ("data.text=text", "data.label=[rain,wind]"), r"classes +rain \d+, wind "),
    "a column of splits": ("x.csv", "text,label,split\n" + "\n".join(f"{t},{c},{('train', 'dev', 'test')[i % 3]}" for
                           i, (t, c) in enumerate(zip(TEXTS, LABELS, strict=True))), (), "10 train, 10 val, 10 test"),
    "a column of splits, passed over": ("x.csv", "text,label,split\n" + "\n".join(f"{t},{c},test" for t, c in
                                        zip(TEXTS, LABELS, strict=True)), ("data.split=none",), r"24 train, 6 val"),
    "JSON lines": ("x.jsonl", "\n".join(json.dumps({"text": t, "label": c}) for t, c in zip(TEXTS, LABELS, strict=True)),
                   (), r"classes +neg 12"),
    "a text of 1 MB": ("x.csv", _csv(texts=["word " * 200_000, *TEXTS[1:]]), (), "longer than 16 tokens"),
    "quotation marks inside of words": ("x.tsv", _csv(texts=['5" disk', *TEXTS[1:]], mark="\t"), (), r"classes +neg"),
    "formulas": ("x.csv", _csv(["=1+1", "@x"] * 15), (), r"classes +=1\+1 12, @x 12"),
    "escapes of a terminal": ("x.csv", _csv(["\x1b[2Ja", "b"] * 15), (), r"\\x1b\[2Ja 12"),
    "copies with two labels": ("x.csv", _csv(texts=["same text"] * 4 + TEXTS[4:]), (), "copies with another label"),
}  # fmt: skip
BAD: dict[str, tuple[str, bytes | str, tuple[str, ...], str]] = {
    "empty": ("x.csv", "", (), "is empty"),
    "a head alone": ("x.csv", "text,label\n", (), "nothing below it"),
    "GBK": ("x.csv", GBK.encode("gbk"), (), "data.encoding="),
    "Windows-1251": ("x.csv", RUSSIAN.encode("cp1251"), (), "data.encoding="),
    "an encoding that is none": ("x.csv", _csv(), ("data.encoding=klingon",), "data.encoding=klingon is unknown"),
    "another encoding than said": ("x.csv", GBK.encode("gbk"), ("data.encoding=utf-8",), "is written otherwise"),
    "no line of names": ("x.tsv", _csv(mark="\t").partition("\n")[2], (), "data.header=false"),
    "two columns of one name": ("x.csv", _csv(head="text,text"), (), "two columns 'text'"),
    "a ragged row": ("x.csv", _csv() + "one,two,three\n", (), "has 3 cells"),
    "a quotation mark without its pair": ("x.csv", _csv(texts=['"open', *TEXTS[1:]]).replace("film number 9", "a,b"), (),
                                          "quotation marks do not pair|cells"),
    "20 MB behind a quotation mark": ("x.csv", _csv() + '"' + "word " * 4_000_000, (), "quotation marks do not pair|cells"),
    "a column that is not there": ("x.csv", _csv(), ("data.label=labels",), "no column 'labels'"),
    "one class": ("x.csv", _csv(["a"] * 30), (), "one class only"),
    "a class of its own for each row": ("x.csv", _csv([f"c{i}" for i in range(30)] * 1), (), "no text .*|too many|left"),
    "JSON that is none": ("x.jsonl", '{"text": "a", "label": "b"}\n{broken\n', (), "line 2 is no JSON"),
    "JSON that is no object": ("x.jsonl", "[1]\n", (), "line 1 is no JSON object"),
    "a strange split": ("x.csv", "text,label,part\n" + "\n".join(f"{t},{c},fold{i}" for i, (t, c) in
                        enumerate(zip(TEXTS, LABELS, strict=True))), ("data.split=part",), "say train, val or test"),
    "a file of another kind": ("x.xlsx", _csv(), (), "use one of .csv"),
    "a delimiter of two": ("x.csv", _csv(), ("data.delimiter=ab",), "must be one character"),
    "numbers and a slip": ("x.csv", _csv([*(f"{i}.5" for i in range(29)), "n.d."]), (), "which is no number"),
    "infinite values": ("x.csv", _csv([*(f"{i}.5" for i in range(29)), "1e999"]), (), "values must be finite"),
}  # fmt: skip
CASES = [
    *(Case(f"table: {n}", partial(_written, file, data, words), 0, says) for n, (file, data, words, says) in GOOD.items()),
    *(Case(f"table: {n}", partial(_written, file, data, words), 1, says, quick=True)
      for n, (file, data, words, says) in BAD.items()),
    Case("table: a folder of files", partial(_folder, ("train.csv", "validation.csv", "test.csv")), 0, "20 train, 20 val"),
    Case("table: a folder without train", partial(_folder, ("a.csv", "b.csv")), 1, "one table for each split", quick=True),
    Case("table: no such file", lambda f: _said(f / "none.csv"), 1, "does not exist", quick=True),
]  # fmt: skip
