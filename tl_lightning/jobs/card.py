"""What others should know of a finished run's model, as the model card that hubs show."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import Any

from tl_lightning import targets
from tl_lightning.backbones.licences import forbids_commerce
from tl_lightning.errors import UserError
from tl_lightning.jobs.evaluate import Evaluation, evaluate
from tl_lightning.jobs.judge import Judge
from tl_lightning.paths import without_folders
from tl_lightning.printable import printable
from tl_lightning.reports.markdown import markdown
from tl_lightning.reports.plan_table import plan_table
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model
from tl_lightning.strategies.plan import Plan, Strategy

_LISTED = 50  # classes


def card(model: Model, judge: Judge, folder: RunFolder, out: Path | None = None) -> Path:
    """MODEL_CARD.md of the run, or `out`: Markdown under the front matter that huggingface_hub reads.

    Raises UserError if the run's samples are gone, or the hub's library is not installed.
    """
    hub()
    splits = [split for split in ("val", "test") if judge.data.samples.size(split)]
    found = {split: evaluate(judge, folder, split) for split in splits}
    model = replace(model, calibration=folder.calibration())
    head = _front_matter(model, judge, folder, found[splits[-1]]).to_yaml()
    path = out or folder.card
    folder.write_text(path, f"---\n{head}\n---\n\n" + "\n".join(_body(model, judge, folder, found)) + "\n")
    return path


def hub() -> Any:
    """The library of the hub. Raises UserError if it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError("a model card needs the hub's library: pip install 'tl-lightning[hub]'") from error
    return huggingface_hub


def _front_matter(model: Model, judge: Judge, folder: RunFolder, last: Evaluation) -> Any:
    """As https://huggingface.co/docs/hub/model-cards describes it."""
    library, task, asked = hub(), model.task, model.backbone.input.pipeline
    dataset = judge.data.samples.root.name
    results = [
        library.EvalResult(
            task_type=asked, dataset_type=dataset, dataset_name=dataset, dataset_split=last.split, metric_type=key,
            metric_name=name, metric_value=round(last[f"{last.split}/{key}"], 4),
        )
        for key, name in task.shown.items()
    ]  # fmt: skip
    return library.ModelCardData(
        license=str(model.facts.get("licence") or "") or None,
        library_name="tl_lightning",
        pipeline_tag=asked,
        tags=["transfer-learning"],
        model_name=folder.path.resolve().name,
        eval_results=results,
    )


def _body(model: Model, judge: Judge, folder: RunFolder, found: Mapping[str, Evaluation]) -> Iterator[str]:
    samples, facts, task = judge.data.samples, model.facts, model.task
    counts = ", ".join(f"{samples.size(s)} {s}" for s in ("train", "val", "test") if samples.size(s))
    yield f"# {folder.path.resolve().name}\n"
    spec = facts["backbone"]
    name = str(spec.get("name", "a network")) if isinstance(spec, Mapping) else "a network of its own"
    yield f"{without_folders(name)}, fine-tuned to {len(task.outputs)} {task.noun}.\n"
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
    if words := folder.words():
        yield f"- `{printable(shlex.join(['tl', 'train', *map(_without_folders, words)]))}`"
    yield f"- preprocessing: {facts['preprocessing']}"
    yield f"- versions: {', '.join(f'{k} {v}' for k, v in facts.get('versions', {}).items())}"
    with folder.weights_file.open("rb") as file:
        yield f"- model.safetensors: SHA-256 {file_digest(file, 'sha256').hexdigest()}"
    yield f"- seed {judge.settings.seed}\n"
    columns, rows_ = plan_table(_plan(model, judge))
    yield markdown(columns, rows_) + "\n"
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


def _plan(model: Model, judge: Judge) -> Plan:
    strategy: Strategy = targets.build(model.facts["strategy"], judge.settings.allow)
    return strategy.plan(model.facts["stages"])


def _without_folders(word: str) -> str:
    """A word of the command line whose path is the name of a file alone: where it lay is nobody's business."""
    key, equals, value = word.partition("=")
    return f"{key}{equals}{without_folders(value.strip(chr(34)))}"
