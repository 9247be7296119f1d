"""What others should know of a finished run's model, as the model card that hubs show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import Any

import yaml

from tl_lightning.backbones.licences import forbids_commerce
from tl_lightning.jobs.evaluate import Evaluation, evaluate
from tl_lightning.jobs.judge import Judge
from tl_lightning.reports.markdown import markdown
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model

_LISTED = 50  # classes


def card(model: Model, judge: Judge, folder: RunFolder, out: Path | None = None) -> Path:
    """MODEL_CARD.md of the run, or `out`: Markdown under the front matter that huggingface_hub reads.

    Raises UserError if the run's samples are gone.
    """
    splits = [split for split in ("val", "test") if judge.data.samples.size(split)]
    found = {split: evaluate(judge, folder, split) for split in splits}
    model = replace(model, calibration=folder.calibration())
    head = yaml.safe_dump(_front_matter(model, judge, folder, found[splits[-1]]), sort_keys=False, allow_unicode=True)
    path = out or folder.card
    folder.write_text(path, f"---\n{head}---\n\n" + "\n".join(_body(model, judge, folder, found)) + "\n")
    return path


def _front_matter(model: Model, judge: Judge, folder: RunFolder, last: Evaluation) -> dict[str, Any]:
    """As https://huggingface.co/docs/hub/model-cards describes it."""
    task, asked = model.task, model.backbone.input.pipeline
    metrics = [{"type": key, "name": name, "value": round(last[f"{last.split}/{key}"], 4)}
               for key, name in task.shown.items()]  # fmt: skip
    dataset = {"name": judge.data.samples.root.name, "type": judge.data.samples.root.name, "split": last.split}
    result = {"task": {"type": asked}, "dataset": dataset, "metrics": metrics}
    licence = str(model.facts.get("licence") or "")
    return {
        **({"license": licence} if licence else {}),
        "library_name": "tl_lightning",
        "pipeline_tag": asked,
        "tags": ["transfer-learning"],
        "model-index": [{"name": folder.path.resolve().name, "results": [result]}],
    }


def _body(model: Model, judge: Judge, folder: RunFolder, found: Mapping[str, Evaluation]) -> Iterator[str]:
    samples, facts, task = judge.data.samples, model.facts, model.task
    counts = ", ".join(f"{samples.size(s)} {s}" for s in ("train", "val", "test") if samples.size(s))
    yield f"# {folder.path.resolve().name}\n"
    yield f"{facts['backbone'].get('name', 'a network')}, fine-tuned to {len(task.outputs)} {task.noun}.\n"
    yield "## Data\n"
    yield f"{samples.noun} of `{samples.root.name}`: {counts}; {len(samples.skipped)} could not be used.\n"
    rows = [[name, str(n)] for name, n in zip(task.outputs, samples.counts("train"), strict=True)][:_LISTED]
    yield markdown([task.noun, "train"], rows) + "\n"
    yield "## Scores\n"
    for split, evaluation in found.items():
        rows = [[s.name, f"{s.value:.4f}", s.interval] for s in evaluation.scores if s.low is not None]
        yield markdown([f"{split}, {evaluation.samples} {samples.noun}", "value", "95 % interval"], rows) + "\n"
    yield "## Limits\n"
    yield from _limits(model, found)
    yield "\n## Terms\n"
    licence = facts.get("licence") or "not stated by the weights that it began from"
    yield f"- pretrained weights: {licence}"
    if forbids_commerce(str(licence)):
        yield "- these weights, and what is trained from them, are not for commerce"
    yield "- data: ask whoever gave them; nothing is recorded\n"
    yield "## How it was made\n"
    strategy = ", ".join(f"{k}={v}" for k, v in facts["strategy"].items() if k != "_target_")
    yield f"- {facts['strategy']['_target_'].rpartition('.')[2]}({strategy})"
    yield f"- preprocessing: {facts['preprocessing']}"
    yield f"- versions: {', '.join(f'{k} {v}' for k, v in facts.get('versions', {}).items())}"
    with folder.weights_file.open("rb") as file:
        yield f"- model.safetensors: SHA-256 {file_digest(file, 'sha256').hexdigest()}"
    yield f"- seed {judge.settings.seed}; every value in config.yaml\n"
    yield '```python\nimport tl_lightning as tl\n\ntl.load("FOLDER").predict("new.jpg")\n```'


def _limits(model: Model, found: Mapping[str, Evaluation]) -> Iterator[str]:
    """What the figures themselves warn of."""
    yield f"- whatever it is given, it answers with its {model.task.noun}: `unknown=true` says what is far off"
    for split, evaluation in found.items():
        rows = evaluation.findings.tables.get("classes", ())
        weak = [
            f"{row['class']} ({row['recall']:.2f})" for row in rows if row["recall"] is not None and row["recall"] < 0.7
        ]
        few = [str(row["class"]) for row in rows if row["support"] < 10]
        if weak:
            yield f"- {split}: less than 70 % are found of {', '.join(weak[:10])}"
        if few:
            yield f"- {split}: fewer than ten samples of {', '.join(few[:10])}, so that their figures say little"
