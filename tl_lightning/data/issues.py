"""What is wrong with a data set, in words: of what kind, which samples, what to do."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tl_lightning.data.samples import Item, Samples
from tl_lightning.data.splits import SPLITS

_FEW, _UNEVEN = 10, 10  # samples of a class, and times as many of the largest as of the smallest
# What people call folders that hold no class.
_NO_CLASSES = frozenset(
    "thumbs thumbnails cache checkpoints tmp temp output outputs results runs logs backup annotations labels masks "
    "metadata unlabeled unlabelled unsorted misc".split()
)


@dataclass(frozen=True)
class Flagged:
    """A sample by its path, and what is odd about it."""

    path: str
    note: str = ""


@dataclass(frozen=True)
class Issue:
    """`kind` for programs; `said` and `remedy`, a sentence each, for people; the samples it concerns, the worst first.

    `leaks`: scores of validation cannot be trusted. `drop`: the paths that are left out of a table without what was
    found.
    """

    kind: str
    said: str
    remedy: str
    samples: Sequence[Flagged] = ()
    leaks: bool = False
    drop: Sequence[str] = ()


def issues_of(samples: Samples) -> Iterator[Issue]:
    """What can be told of any samples: those that cannot be used, copies, classes, groups."""
    yield from _unused(samples)
    yield from _copies(samples)
    yield from _classes(samples)


def _unused(samples: Samples) -> Iterator[Issue]:
    if unused := [Flagged(i.path, i.skipped) for i in samples.skipped]:
        yield Issue(
            "unusable",
            f"{len(unused)} of {len(samples.items)} {samples.noun} cannot be used",
            "mend or remove them; training leaves them out",
            unused,
            drop=[f.path for f in unused],
        )


@dataclass(frozen=True)
class CopyKind:
    """What copies of one sample may be: which are so, what to say of them, and which to drop.

    `pictures`: each sample is counted once, not each of its copies.
    """

    kind: str
    fits: Callable[[Sequence[Item]], bool]
    said: str
    remedy: str
    drop: Callable[[Sequence[Item]], Sequence[Item]]
    pictures: bool = True


_COPIES = (
    CopyKind(
        "contradictions",
        lambda copies: len({i.label for i in copies}) > 1,
        "have copies with another label",
        "find out which label is right, and remove the others",
        lambda copies: copies,
    ),
    CopyKind(
        "leaks",
        lambda copies: len({i.split for i in copies}) > 1,
        "are in more than one split",
        "remove them from train, or let the split be drawn: copies stay on one side of it",
        lambda copies: [i for i in copies if i.split == "train"],
    ),
    CopyKind(
        "copies",
        lambda copies: len({i.split for i in copies}) == 1,
        "are copies of another",
        "remove them: they count twice, and tell nothing new",
        lambda copies: copies[1:],
        pictures=False,
    ),
)


def _copies(samples: Samples) -> Iterator[Issue]:
    clusters: dict[object, list[Item]] = defaultdict(list)
    for item in samples.items:
        if not item.skipped and item.path in samples.copies:
            clusters[samples.copies[item.path]].append(item)
    for kind in _COPIES:
        if found := [c for c in clusters.values() if kind.fits(c)]:
            number = len(found) if kind.pictures else sum(len(c) - 1 for c in found)
            drop = [item.path for c in found for item in kind.drop(c)]
            said = f"{number} {samples.noun} {kind.said}"
            yield Issue(kind.kind, said, kind.remedy, _shown(found), kind.kind == "leaks", drop)


def _shown(clusters: Sequence[Sequence[Item]]) -> list[Flagged]:
    return [Flagged(i.path, f"{number}: {i.split}, {i.label}") for number, c in enumerate(clusters, 1) for i in c]


def _classes(samples: Samples) -> Iterator[Issue]:
    names = samples.task.outputs
    by_split = {split: dict(zip(names, samples.counts(split), strict=True)) for split in SPLITS if samples.size(split)}
    train = by_split.get("train", {})
    if not train or not any(train.values()):
        return
    for split, counts in by_split.items():
        if missing := [name for name, count in counts.items() if not count]:
            yield Issue("missing", f"{split} has no {samples.noun} of {_listed(missing)}", _add(split))
    if few := [name for name, count in train.items() if 0 < count < _FEW]:
        yield Issue("few", f"fewer than {_FEW} training {samples.noun} of {_listed(few)}", _add("train"))
    least, most = min(train, key=lambda name: train[name]), max(train, key=lambda name: train[name])
    if train[most] >= _UNEVEN * max(train[least], 1):
        yield Issue(
            "uneven",
            f"{train[most]} training {samples.noun} of {most}, {train[least]} of {least}",
            "say data.class_weights=auto or data.sampler=balanced, and look at macro-F1",
        )
    forms = Counter(map(_form, names))
    if alike := [name for name in names if forms[_form(name)] > 1]:
        yield Issue(
            "names", f"names that differ by their writing alone: {_listed(alike)}", "are they one class? Join them"
        )
    if odd := [name for name in names if _form(name).strip(" ._-@#$") in _NO_CLASSES]:
        yield Issue("no_class", f"a strange name for a class: {_listed(odd)}", "remove the folder if it holds no class")


def group_issues(samples: Samples) -> Iterator[Issue]:
    """Groups that are in several splits, where there are groups."""
    if samples.grouped_by is None:
        return
    where: dict[str, dict[str, Item]] = defaultdict(dict)
    for split in SPLITS:
        for item, name in zip(samples.used(split), samples.groups(split, samples.grouped_by), strict=True):
            where[name].setdefault(split, item)
    if across := {name: found for name, found in where.items() if len(found) > 1}:
        yield Issue(
            "groups",
            f"{len(across)} of {len(where)} groups are in more than one split, the first {min(across)}",
            "let the split be drawn: all of a group stays on one side of it",
            [Flagged(i.path, f"{name}: {split}") for name, found in across.items() for split, i in found.items()],
            leaks=True,
        )


def _form(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _add(split: str) -> str:
    return f"add some to {split}, or name another split"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def dropped(issues: Sequence[Issue]) -> Mapping[str, str]:
    """The paths that a table without what was found leaves out, and for what."""
    found: dict[str, str] = {}
    for issue in issues:
        for path in issue.drop:
            found.setdefault(path, issue.kind)
    return found
