"""Shards of images in batches for the learner: every image once an epoch, over all workers and ranks."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl_lightning import checks
from tl_lightning.data import splits
from tl_lightning.data.images.decode import DEFAULT, load_rgb
from tl_lightning.data.images.image_datamodule import ImageDataModule
from tl_lightning.data.images.image_folder import Checking, ImageFolder, divided, set_aside
from tl_lightning.data.images.image_options import image_options
from tl_lightning.data.images.inspection import Finding
from tl_lightning.data.images.loading import Images
from tl_lightning.data.images.shards.parquet_shard import WINDOW
from tl_lightning.data.images.shards.places import Shards, is_remote, shard_names
from tl_lightning.data.images.shards.record import Record
from tl_lightning.data.images.shards.shard_reader import Indexed, ShardReader, index
from tl_lightning.data.images.transforms import Transform
from tl_lightning.data.samples import Item
from tl_lightning.data.sampling import EpochSampler, WindowSampler
from tl_lightning.data.splits import SplitOptions, split_of
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput, Reading
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import Labels, MakeTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Opens images of shards by the path that items have: SHARD/KEY."""

    reader: ShardReader
    records: Mapping[str, tuple[str, Record]]

    def open(self, path: str, at_least: int | None = None, reading: Reading = DEFAULT) -> Image.Image:
        """An image. Raises whatever Pillow finds, and UserError for a shard that cannot be had."""
        shard, record = self.records[path]
        return load_rgb(io.BytesIO(self.reader.opened(shard).read(record)), at_least, reading)


@dataclass(frozen=True)
class ImageShards(ImageFolder):
    """Images in shards, known by their shard and their name in it; `findings` of one look at each.

    `named`: what names the shards, if one name does.
    """

    source: Source | None = None
    findings: Mapping[str, Finding] = field(default_factory=dict)
    named: str = ""

    def lies_at(self) -> dict[str, Path]:
        """The shards, where they lie on this machine."""
        return {} if not self.named or is_remote(self.named) else {"shards": Path(self.named)}

    def sample(self, item: Item) -> str:
        """Shard and name."""
        return item.path

    def opened(self, path: str, at_least: int | None = None) -> Image.Image:
        """An image, as the data's files are read."""
        assert self.source is not None
        return self.source.open(path, at_least, self.reading)

    def sides(self, item: Item) -> tuple[int, int]:
        """Width and height, upright."""
        return self.findings[item.path].width, self.findings[item.path].height

    def look(self, paths: Sequence[str], draft: bool) -> Mapping[str, Finding]:
        """Findings by path."""
        return {path: self.findings[path] for path in paths}

    def rows(self, items: Sequence[Item], beside: Path) -> list[list[str]]:
        """Raises UserError: no table names what lies in shards."""
        raise UserError("write=... is for files: of what lies in shards no table can be made; write new shards")


class ShardDataModule(ImageDataModule):
    """The splits of shards, in the geometry of one backbone. Nothing decoded is kept."""

    samples: ImageShards
    window = 0  # shards, or row groups, whose images are shuffled together; 0: all of them

    def images(self, split: str, transform: Transform, keep: bool = True) -> Images:
        """A split's images under a transform."""
        return Images(self.samples.split(split), transform, None, self.draft, self.samples.opened)

    def order(self) -> EpochSampler:
        """All over the shards; of Parquet, and of what is fetched, a few of them at a time."""
        order = super().order()
        if not self.window or order.weights is not None:
            return order
        assert self.samples.source is not None
        records = self.samples.source.records
        places = [(shard, record.unit) for shard, record in (records[i.path] for i in self.samples.used("train"))]
        unit = {place: number for number, place in enumerate(dict.fromkeys(places))}
        return WindowSampler(np.array([unit[place] for place in places]), self.seed, self.window)


def read(
    shards: str | Sequence[str],
    task: MakeTask = infer,
    division: SplitOptions | None = None,
    checking: Checking | None = None,
) -> ImageShards:
    """Check and split the images in shards, of which the names may say the split (train-000.tar, val-000.tar).

    Raises UserError for what cannot be trained on, and for shards that cannot be had, or are damaged.
    """
    division, checking = division or SplitOptions(), checking or Checking()
    names = shard_names(shards if isinstance(shards, str) else list(shards))
    reader = ShardReader(Shards())
    found = index(reader, names, checking.reading, checking.draft)
    records, findings, items = _items(found)
    made, labels = task(Labels(tuple(i.label for i in items), f"data.shards={shards}", names=True))
    items = [replace(i, label=label) for i, label in zip(items, labels, strict=True)]
    if division.splits:
        items = splits.read(Path(division.splits), exists=records.__contains__, among="data.shards", files=False)
    items = set_aside(items, findings, checking, Path("."))
    source = Source(reader, records)
    opened = lambda path, at_least: source.open(path, at_least, checking.reading)  # noqa: E731
    usual = replace(checking, on_error="skip")
    done = divided(Path(_common(names)), items, findings, made, usual, division, f"data.shards={shards}", None, opened)
    return ImageShards(**vars(done), source=source, findings=findings, named=shards if isinstance(shards, str) else "")


def _items(found: Mapping[str, Indexed]) -> tuple[dict[str, tuple[str, Record]], dict[str, Finding], list[Item]]:
    """Records, findings and items by path; one without a label is set aside."""
    records: dict[str, tuple[str, Record]] = {}
    findings: dict[str, Finding] = {}
    items = []
    above = os.path.commonpath([Path(name).parent for name in found]) if len(found) > 1 else ""
    for name, rows in found.items():
        short = os.path.relpath(name, above) if above else Path(name).name
        said = split_of(Path(short).stem) or split_of(Path(short).parent.name)  # train-000.tar, or train/000.tar
        split = said[0] if said else "train"
        for record, finding in rows:
            path = f"{short}/{record.key}"
            records[path], findings[path] = (name, record), finding
            items.append(Item(path, record.label, split if record.label else "", "" if record.label else "no label"))
    if not items:
        raise UserError(f"data.shards: {next(iter(found))} holds no images")
    return records, findings, items


def _common(names: Sequence[str]) -> str:
    """What a set of shards is called: the folder, or the address, that they lie in."""
    return names[0].rpartition("/")[0] or "."


def image_shards(
    input: ImageInput, task: MakeTask = infer, *, shards: str | Sequence[str], window: int | None = None, **options: Any
) -> ShardDataModule:
    """Images in shards (tar files, Parquet), in batches, under `image_options`.

    `window`: of so many shards (of Parquet row groups) at a time images are shuffled; None: of all that lie on this
    machine in tar files, of four of others. Raises UserError for anything that cannot be trained on, TypeError for an
    unknown option.
    """
    told = image_options(input, **options)
    checks.whole("data.window", window, 1, optional=True)
    samples = read(shards, task, told.division, told.checking)
    decoding = replace(told.decoding, cache="off")
    module = ShardDataModule(samples, replace(input, reading=samples.reading), told.augment, told.loading, decoding)
    assert samples.source is not None
    names = {name for name, _ in samples.source.records.values()}
    apart = any(is_remote(name) or not samples.source.reader.opened(name).anywhere for name in names)
    module.window = window or (WINDOW if apart else 0)
    return module
