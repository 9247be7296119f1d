"""One pass of all samples through the frozen stages, kept for every later epoch and run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl_lightning.bar import Bar
from tl_lightning.batch import Inputs, map_tensors
from tl_lightning.errors import UserError
from tl_lightning.features import digests
from tl_lightning.features.engine import CHECKED_ROWS, Prefix, disagreement
from tl_lightning.features.extraction import RowSet, Views, by_view, checksums, fitted
from tl_lightning.features.feature_source import FeatureSource
from tl_lightning.features.views import View
from tl_lightning.machine import RAM_SHARE, free_memory
from tl_lightning.store import Entry, NoRoom, Store, human

log = logging.getLogger(__name__)

_CHECKSUMS = "checksums.npy"
_CHUNK = 4096  # rows that are read at once
_AGREED: set[str] = set()  # keys of entries that this process has computed some rows of: other jobs of a sweep ask, too
_AGREES = 1e-2  # relative distance of a kept row from the same row computed again: half precision takes 3e-4 of it


class Extractor:
    """Rows of activations from the cache, or computed and put there.

    `dtype`: "float16" or "float32"; values that half precision cannot hold are kept in single precision. `store` None:
    rows stay in memory.
    """

    def __init__(self, prefix: Prefix, data: FeatureSource, store: Store | None, dtype: str, show: bool) -> None:
        self.prefix, self.data, self.store, self.dtype, self.show = prefix, data, store, dtype, show
        self.kept, self.computed, self.seconds = 0, 0, 0.0
        self._normalise = data.input.normaliser()

    def rows(self, wanted: Sequence[tuple[str, View]]) -> list[np.ndarray]:
        """The array (N, ...) of every (split, view). Raises NoRoom if an entry cannot be kept."""
        parts = self.parts(wanted)
        try:
            self._fill(parts)
        except OverflowError as why:
            log.info(f"cache     {why}: rows are kept in single precision")
            self.dtype = "float32"
            self._fill(parts)
        arrays = [part.rows for part in parts if part.rows is not None]
        self.kept = sum(a.nbytes for a in arrays)
        return arrays

    def parts(self, wanted: Sequence[tuple[str, View]]) -> list[RowSet]:
        """The rows of every (split, view), of which only the shape is known yet."""
        parts = [RowSet(s, v, self.data.dataset(s, v.transform)) for s, v in wanted]
        for part in parts:  # sizes may differ between training and evaluation, and lengths between splits
            like = (part.view.transform.name, part.dataset.length)
            twin = next((p for p in parts if p.shape and (p.view.transform.name, p.dataset.length) == like), None)
            part.shape = twin.shape if twin else self._look(part)
        return parts

    def missing(self, parts: Sequence[RowSet]) -> list[RowSet]:
        """Those that no earlier run has left in the cache, each with its key there."""
        if self.store is None:
            return list(parts)
        self._name(parts, self.store)
        return [part for part in parts if self.store.get(part.key) is None]

    def size(self, parts: Sequence[RowSet]) -> int:
        """Bytes of their rows."""
        return sum(len(p.dataset) * int(np.prod(p.shape)) for p in parts) * np.dtype(self.dtype).itemsize

    def stream(self, parts: Sequence[RowSet]) -> Iterator[tuple[Sequence[RowSet], np.ndarray, np.ndarray]]:
        """Parts of one split, the places (N,) of some samples and their rows (views x N, ...), until all were there."""
        jobs = [[p for p in parts if p.split == split] for split in dict.fromkeys(p.split for p in parts)]
        for job, index, samples in self._batches(jobs):
            yield jobs[job], index, self._converted(self._normalised(samples), jobs[job][0].shape)

    def _fill(self, parts: Sequence[RowSet]) -> None:
        if self.store is not None:
            self._from_store(parts, self.store)
            return
        size = self.size(parts)
        if size > RAM_SHARE * free_memory():
            raise NoRoom(f"{human(size)} are more than a quarter of the {human(free_memory())} of memory that are free")
        for part in parts:
            part.rows = np.empty((len(part.dataset), *part.shape), self.dtype)
        self._compute(parts)

    def _look(self, part: RowSet) -> tuple[int, ...]:
        """Shape of a row; single precision from here on if half precision cannot hold its values."""
        rows = self._again(part, np.unique([0, part.dataset.longest, len(part.dataset) - 1]))
        fits = disagreement(rows, rows.half()) < _AGREES / 10
        if self.dtype == "float16" and not fits:
            log.info("cache     half precision cannot hold these activations: they are kept in single precision")
        self.dtype = self.dtype if fits else "float32"
        return tuple(rows.shape[1:])

    def _name(self, parts: Sequence[RowSet], store: Store) -> None:
        """Give every part its key; single precision if an earlier run found half precision too narrow for them."""
        prefix = digests.of_prefix(self.prefix.backbone, self.prefix.boundary)
        samples = {split: self.data.digests(split) for split in {p.split for p in parts}}
        for dtype in dict.fromkeys(("float32", self.dtype)):
            for p in parts:
                how = (self.data.reading, dtype, self.prefix.half)
                p.key = digests.key(prefix, p.split, samples[p.split], p.view, *how)
            if all(store.get(p.key) for p in parts):
                self.dtype = dtype
                return

    def _from_store(self, parts: Sequence[RowSet], store: Store) -> None:
        self._name(parts, store)
        with ExitStack() as locks:
            for part in sorted(parts, key=lambda p: p.key):  # one order for all processes: none waits for a waiting one
                locks.enter_context(store.lock(part.key))
                part.rows = self._kept(part, store.get(part.key), max(2, -(-CHECKED_ROWS // len(parts))))
            missing = [p for p in parts if p.rows is None]
            if not missing:
                return
            store.make_room(self.size(missing))
            folders: list[Path] = []
            with ExitStack() as drafts:
                for part in missing:
                    length = len(part.dataset)
                    facts = {"split": part.split, "images": length, "shape": part.shape, "dtype": self.dtype,
                             "root": str(self.data.samples.root), "boundary": self.prefix.boundary,
                             "network": type(self.prefix.backbone.net).__name__, "view": part.view.name}  # fmt: skip
                    folder = drafts.enter_context(store.writing(part.key, facts))
                    part.out = drafts.enter_context((folder / "rows.npy").open("wb"))
                    header = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": (length, *part.shape)}
                    np.lib.format.write_array_header_1_0(part.out, header)
                    part.begin, part.checksums = part.out.tell(), np.zeros(length, np.uint32)
                    folders.append(folder)
                self._compute(missing)
                for part, folder in zip(missing, folders, strict=True):
                    np.save(folder / _CHECKSUMS, np.asarray(part.checksums))
            for part in missing:
                try:
                    part.rows = _opened(store.root / part.key / "rows.npy")
                except OSError as why:
                    raise NoRoom(f"{store.root / part.key} was removed to make room: {why}") from why

    def _kept(self, part: RowSet, entry: Entry | None, number: int) -> np.ndarray | None:
        """The rows of an entry, if it is whole and so many of them come out the same again."""
        if entry is None:
            return None
        try:
            rows = _opened(entry.folder / "rows.npy")
            if rows.shape != (len(part.dataset), *part.shape) or rows.dtype != np.dtype(self.dtype):
                raise ValueError(f"it holds {rows.dtype} {rows.shape}")
            if (wrong := _changed(rows, _opened(entry.folder / _CHECKSUMS))).size:
                raise ValueError(f"{wrong.size} of its rows have changed, the first is row {wrong[0]}")
            if part.key in _AGREED:
                return rows
            picked = np.random.default_rng().choice(len(rows), min(number, len(rows)), replace=False)
            again = fitted(self._again(part, picked), part.shape)
            error = disagreement(again, torch.from_numpy(rows[picked]))
            if error > _AGREES:
                raise ValueError(f"rows are off by {error:.1e}")
            _AGREED.add(part.key)
        except (OSError, ValueError, EOFError) as why:
            log.warning(f"cache     {entry.folder} is damaged ({why}) and is computed again")
            return None
        return rows

    def _again(self, part: RowSet, picked: np.ndarray) -> Tensor:
        """Rows of these samples by the network itself."""
        stacked = self.data.stack([part.view(part.dataset.prepared(int(i)), int(i)) for i in picked])
        return self.prefix.eager(self._normalised(stacked)).float().cpu()

    def _normalised(self, samples: Inputs) -> Inputs:
        on_device = map_tensors(lambda x: x.to(self.prefix.device, non_blocking=True), samples)
        normalised: Inputs = self._normalise(on_device)
        return normalised

    def _compute(self, parts: Sequence[RowSet]) -> None:
        total, began = sum(len(p.dataset) for p in parts), time.perf_counter()
        with Bar(total, self.data.samples.noun, "features", self.show) as shown:
            for views, index, rows in self.stream(parts):
                for part, mine in zip(views, np.split(rows, len(views)), strict=True):
                    part.put(index, mine)
                shown.advance(len(rows))
        for part in parts:
            if part.out is not None:
                part.out.close()  # a disk that is full says so now, and not when the entry is there
        self.computed, self.seconds = total, time.perf_counter() - began

    def _converted(self, samples: Inputs, shape: tuple[int, ...]) -> np.ndarray:
        exact = fitted(self.prefix(samples).cpu(), shape).numpy()
        if not np.isfinite(exact).all():  # beyond what the engine's half precision holds on its way
            exact = fitted(self.prefix.eager(samples).cpu(), shape).numpy()
        if not np.isfinite(exact).all():
            raise UserError("the frozen stages give numbers that are not finite: are the weights damaged?")
        with np.errstate(over="ignore"):
            rows: np.ndarray = exact.astype(self.dtype)
        if not np.isfinite(rows).all():
            raise OverflowError("half precision cannot hold these activations")
        return rows

    def _batches(self, jobs: Sequence[Sequence[RowSet]]) -> Iterator[tuple[int, np.ndarray, Inputs]]:
        order: list[list[tuple[int, int]]] = []
        for number, job in enumerate(jobs):
            # elsewhere as many as in evaluation, which the device has room for
            size = self.data.pass_batch if self.prefix.device.type == "cpu" else 2 * self.data.batch_size
            step = max(1, size // len(job))
            index = self.data.pass_order(job[0].split).tolist()
            order += [[(number, i) for i in index[a : a + step]] for a in range(0, len(index), step)]
        workers = self.data.workers
        if workers is None:
            workers = self.data.enough_workers(jobs[0][0].dataset)
        loader = DataLoader(
            Views(jobs),
            batch_sampler=order,
            num_workers=workers,
            collate_fn=partial(by_view, self.data.stack),
            pin_memory=self.prefix.device.type == "cuda",
            generator=torch.Generator(),
        )
        for keys, samples in zip(order, loader, strict=True):
            yield keys[0][0], np.array([i for _, i in keys]), samples


def _changed(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which rows (N, ...) are no longer what they were when their checksums (N,) were taken."""
    starts = range(0, len(rows), _CHUNK)
    found = np.concatenate([checksums(rows[start : start + _CHUNK]) for start in starts])
    return np.flatnonzero(found != kept)


def _opened(file: Path) -> np.ndarray:
    rows: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return rows
