"""Images that are one picture: resized, encoded anew, cropped a little, mirrored, or of another brightness.

Thumbnails alone tell too many apart things the same (of hand signs before one wall, hashes found 330 pairs of 2,062
images, none of them copies). So what thumbnails find is laid over each other and compared where edges lie: of pictures
of the same thing the edges differ. Measured in docs/data.md.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import Image, ImageOps

from tl_lightning.bar import Bar
from tl_lightning.data.images.inspection import THUMBNAIL, Finding, thumbnails

log = logging.getLogger(__name__)

_ALIKE, _NEIGHBOURS = 0.72, 8  # correlation of 8 x 8 pixels, and how many of the most alike are looked at more closely
_LAID_OVER = 0.93  # correlation of 12 x 12 pixels, one of them cropped
_SAME_GREYS, _SAME_EDGES = 0.9, 0.82  # correlation of up to 48 x 48 pixels: of different photographs at most .77
_COARSE, _FINE, _SIDE = 8, 12, 48
_SIZES, _PLACES = (1.0, 0.95, 0.9), (0.0, 0.5, 1.0)  # of a crop: its share of a side, and where between the ends
_SMALLEST = 0.8
# Where so many pairs for each image are nearly so much alike (drawings, digits, frames of a video), none is told apart:
# of photographs .000 to .025, of digits 1.05.
_UNSURE_EDGES, _UNSURE_SHARE, _UNSURE_PAIRS = 0.62, 0.1, 10
_CHUNK, _VALUES = 1024, 5 * 10**7  # images at once, and likenesses: half a gigabyte
_KEPT = 256  # images in memory
Open = Callable[[str, int], Image.Image]  # of a path, and the pixels of its shorter side that will do
Span = tuple[float, float]  # of a crop along one side: its share, and where it lies, from 0 to 1
Window = tuple[Span, Span]  # across, and down
_SPANS: tuple[Span, ...] = tuple((s, p) for s, p in product(_SIZES, _PLACES) if s < 1 or p == 0)


@dataclass(frozen=True)
class Pair:
    """Two images by their places, that are one; `mirrored`, and how alike their edges are."""

    first: int
    second: int
    mirrored: bool
    alike: float


@dataclass(frozen=True)
class Overlay:
    """How two thumbnails are alike: `cropped`, 0 or 1, is that of which the `window` is laid over the other."""

    first: int
    second: int
    mirrored: bool
    cropped: int
    window: Window


def near_copies(paths: Sequence[str], findings: Mapping[str, Finding], opened: Open, show: bool = True) -> list[Pair]:
    """Pairs of images of different files that are one picture, by their places in `paths`; `opened` gives an image.

    None, which is said, where many images are nearly as alike as copies are.
    """
    thumbs = thumbnails([findings[path] for path in paths]).astype(np.float32)
    pairs = _candidates(thumbs)
    near = _laid_over(thumbs, pairs) if len(pairs) else []
    grey = functools.lru_cache(_KEPT)(lambda place: opened(paths[place], 2 * _SIDE).convert("L"))

    found, unsure = [], 0
    with Bar(len(near), "pairs", "compare", show) as bar:
        for pair in near:
            second = ImageOps.mirror(grey(pair.second)) if pair.mirrored else grey(pair.second)
            images = grey(pair.first), second
            alike = _likeness(images[pair.cropped], images[1 - pair.cropped], pair.window)
            if alike > _SAME_EDGES:
                found.append(Pair(pair.first, pair.second, pair.mirrored, alike))
            unsure += _UNSURE_EDGES < alike <= _SAME_EDGES
            bar.advance(1)
    if unsure > max(_UNSURE_PAIRS, _UNSURE_SHARE * len(paths)):
        log.info(f"copies    {unsure} pairs of images are so alike that only exact copies are told from them")
        return []
    return found


def _candidates(thumbs: np.ndarray) -> np.ndarray:
    """(M, 3): pairs of thumbnails (N, S, S) by place that are each other's like, and whether one is mirrored."""
    coarse, found = _standardised(_shrunk(thumbs)), []
    for mirrored in (False, True):
        others = _standardised(_shrunk(thumbs[:, :, ::-1])) if mirrored else coarse
        rows_at_once = max(16, min(_CHUNK, _VALUES // len(coarse)))
        for start in range(0, len(coarse), rows_at_once):
            alike = coarse[start : start + rows_at_once] @ others.T
            own = np.arange(len(alike))
            alike[own, start + own] = -1
            number = min(_NEIGHBOURS, len(coarse) - 1)
            nearest = np.argpartition(-alike, number, 1)[:, :number]
            rows, columns = np.nonzero(np.take_along_axis(alike, nearest, 1) > _ALIKE)
            pairs = np.sort(np.stack([start + rows, nearest[rows, columns]], 1), 1)
            found.append(np.concatenate([pairs, np.full((len(pairs), 1), mirrored)], 1))
    return np.unique(np.concatenate(found), axis=0)


def _laid_over(thumbs: np.ndarray, pairs: np.ndarray) -> list[Overlay]:
    """Those of the pairs (M, 3) of thumbnails (N, S, S) that are alike once one is cropped: which one, and how."""
    both = np.concatenate([thumbs, thumbs[:, :, ::-1]])
    sides = pairs[:, 0], pairs[:, 1] + len(thumbs) * pairs[:, 2]
    whole = _standardised(_resampling(_SPANS[0]) @ both @ _resampling(_SPANS[0]).T)
    best = np.full(len(pairs), -1.0)
    crop = np.zeros((len(pairs), 2), int)
    for cropped in (0, 1):
        order = np.argsort(sides[cropped], kind="stable")  # the crops of an image are made once for all of its pairs
        for part in np.split(order, range(_CHUNK, len(order), _CHUNK)):
            images, of = np.unique(sides[cropped][part], return_inverse=True)
            scores = np.einsum("nkd,nd->nk", _crops(both[images])[of], whole[sides[1 - cropped][part]])
            better = scores.max(1) > best[part]
            crop[part[better], 0], crop[part[better], 1] = cropped, scores.argmax(1)[better]
            best[part] = np.maximum(best[part], scores.max(1))
    found = []
    for k in np.flatnonzero(best > _LAID_OVER):
        down, across = divmod(int(crop[k, 1]), len(_SPANS))
        window = (_SPANS[across], _SPANS[down])
        first, second, mirrored = pairs[k].tolist()
        found.append(Overlay(first, second, bool(mirrored), int(crop[k, 0]), window))
    return found


def _crops(thumbs: np.ndarray) -> np.ndarray:
    """(N, K, D): every crop of thumbnails (N, S, S), the whole first, standardised."""
    every = np.concatenate([_resampling(span) for span in _SPANS])  # (spans * FINE, S)
    laid = (every @ thumbs @ every.T).reshape(len(thumbs), len(_SPANS), _FINE, len(_SPANS), _FINE)
    return _standardised(laid.transpose(0, 1, 3, 2, 4).reshape(len(thumbs), len(_SPANS) ** 2, _FINE, _FINE))


@functools.cache
def _resampling(span: Span) -> np.ndarray:
    """(FINE, S): the means over equal parts of a part of one side."""
    (share, place), parts = span, np.arange(_FINE + 1)
    edges = THUMBNAIL * (place * (1 - share) + share * parts / _FINE)
    pixels = np.arange(THUMBNAIL)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    means: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return means


def _likeness(cropped: Image.Image, whole: Image.Image, window: Window) -> float:
    """How alike the edges of two grey images are where a crop, moved until it fits best, lies over the other.

    0 where their greys differ.
    """
    side = min(_SIDE, *cropped.size, *whole.size)
    against, place, step = (
        _resized(whole, ((1.0, 0.0), (1.0, 0.0)), side),
        np.ravel(window),
        np.array([0.025, 0.25] * 2),
    )
    best = _correlation(_resized(cropped, window, side), against)
    for _ in range(4):
        for k, sign in product(range(4), (-1, 1)):
            moved = place.copy()
            moved[k] += sign * step[k]
            if (moved >= (_SMALLEST, 0, _SMALLEST, 0)).all() and (moved <= 1).all():
                score = _correlation(_resized(cropped, moved.reshape(2, 2), side), against)
                if score > best:
                    best, place = score, moved
        step = step / 2
    if best < _SAME_GREYS:
        return 0.0
    return _correlation(_edges(_resized(cropped, place.reshape(2, 2), side)), _edges(against))


def _resized(image: Image.Image, window: Window | np.ndarray, side: int) -> np.ndarray:
    """(side, side): a part of an image."""
    (width, across), (height, down) = window
    left, top = across * (1 - width) * image.width, down * (1 - height) * image.height
    box = (left, top, left + width * image.width, top + height * image.height)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box), np.float32)


def _edges(grey: np.ndarray) -> np.ndarray:
    """(2, H - 1, W - 1): differences of neighbours across and down."""
    return np.stack([np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two arrays (..., H, W), each of whose planes is centred."""
    a, b = (x - x.mean((-2, -1), keepdims=True) for x in (a, b))
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-6))


def _shrunk(thumbs: np.ndarray) -> np.ndarray:
    """(N, COARSE, COARSE) of thumbnails (N, S, S)."""
    block = THUMBNAIL // _COARSE
    means: np.ndarray = thumbs.reshape(len(thumbs), _COARSE, block, _COARSE, block).mean((2, 4))
    return means


def _standardised(images: np.ndarray) -> np.ndarray:
    """(..., H * W) of images (..., H, W): of mean 0 and length 1, so that products are correlations; flat ones 0."""
    flat = images.reshape(*images.shape[:-2], -1)
    flat = flat - flat.mean(-1, keepdims=True)
    length = np.linalg.norm(flat, axis=-1, keepdims=True)
    unit: np.ndarray = flat / np.where(length > 1e-3, length, np.inf)
    return unit
