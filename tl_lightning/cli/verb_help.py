"""The words of every verb that is no Hydra application, and what each means."""

from __future__ import annotations

from collections.abc import Mapping

_RUN = "a finished run's folder"
_OUT = "where it goes, instead of into the run's folder"

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "doctor": {
        "WORDS": "those of tl train: data.root=photos, data.file=table.csv, data.group=..., backbone=...",
        "out": "a folder for doctor.html, with small pictures, doctor.md and doctor.json",
        "write": "clean.csv: a table without what was found, which trains as it is (data.file=clean.csv)",
    },
    "advise": {
        "WORDS": "those of tl train: data.root=photos backbone=a,b; weights that are not here are downloaded",
        "out": "a folder that keeps it, too",
    },
    "rank": {
        "WORDS": "those of tl train: data.root=photos",
        "backbones": "[a,b,...], which are compared",
        "download": "true: also those whose weights have to be downloaded",
        "out": "the picture (rank.png)",
    },
    "predict": {
        "run": _RUN,
        "source": "a file, a folder, a pattern, a .txt of paths, - for standard input; of texts a table or a .txt",
        "out": "answers.csv, .jsonl or .parquet (predictions.csv of the run)",
        "text": "of a table, the column of texts",
        "top": "how many classes in a row (1)",
        "unknown": "true: the distance to the training samples, and whether it is larger than nearly all of theirs",
        "embeddings": "true: features, in a .npy beside the file",
        "explain": "true: heat maps in a folder beside the file, or the words that weigh most",
        "rank": "label_next: first what tells most when it is labelled",
        "tta": "flip or crops: the mean over views of each image",
        "engine": "auto, eager, fused, onnxruntime, compiled",
    },
    "evaluate": {
        "run": f"{_RUN}, or [A,B]: which of two is better",
        "split": "val, test or train (val)",
        "data.root": "another folder of class folders, instead of a split",
        "data.file": "of texts, another table",
        "group": "a pattern in paths, or a column: one answer for each of its groups",
        "threshold": "precision:0.99, recall:0.9 or f1: chosen for every class, and kept in the run; none: taken back",
        "tta": "flip or crops: the mean over views of each image",
        "out": f"a folder: {_OUT}",
    },
    "serve": {
        "run": _RUN,
        "host": "127.0.0.1, this machine alone; any other asks for a token",
        "port": "8000; 0: one that is free",
        "token": "what requests must bring (TL_TOKEN, or a new one)",
        "max_mb": "of a request (10)",
        "max_megapixels": "of an image (50)",
        "unknown": "true or false: whether answers say what is unlike the training samples",
        "engine": "auto, eager, fused, onnxruntime, compiled",
    },
    "add_class": {
        "run": _RUN,
        "data.root": "a folder with a folder for each new class",
        "data.file": "of texts, a table",
        "out": "the new run's folder (RUN-extended)",
    },
    "report": {"run": f"{_RUN}, or [A,B]: two side by side", "out": f"a file: {_OUT}"},
    "card": {"run": _RUN, "out": f"a file: {_OUT}"},
    "export": {
        "run": _RUN,
        "format": "onnx, onnx_int8, onnx_resize, torch_export or safetensors (onnx)",
        "out": f"a folder: {_OUT}",
    },
    "leaderboard": {
        "FOLDERS": "of sweeps, and of single runs (multirun)",
        "where": "WORD=VALUE,...: only runs that were told so",
        "sort": "a number like seconds/total, or a word (the score)",
        "out": "a folder for the files (the first of FOLDERS)",
    },
    "wise": {"run": _RUN},
    "soup": {"sweep": "a sweep's folder"},
    "backbones": {},
}


def help_of(verb: str, what: str) -> str:
    """What a verb does, and its options, a line each."""
    lines = [f"  {name:<15} {meaning}" for name, meaning in OPTIONS[verb].items()]
    return "\n".join([f"tl {verb}: {what}", *([""] if lines else []), *lines])
