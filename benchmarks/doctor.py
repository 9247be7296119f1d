"""The data doctor: how fast it is, and what it finds of what was planted.

    python benchmarks/doctor.py hymenoptera/ sign_digits/ cifar10/ [weights=FILE]

Of every folder of class folders: images looked at a second by one process, beside plain decoding by Pillow, cold and
remembered; how alike the edges are of images that thumbnails take for one (also of scikit-learn's digits, enlarged to
28 pixels); natural near copies; of 150 images each variant found (crops of 5 % of every side, shifted crops, mirror
images, half the size, JPEG of quality 60, brighter); and 12 labels of the training split flipped, ten times: how many
of them are among the first 12.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

os.environ["TL_CACHE"] = tempfile.mkdtemp(prefix="tl-cache-")

import tl_lightning  # noqa: F401  # first: it lets torchvision be imported

import numpy as np  # isort: skip
import torch
from PIL import Image, ImageEnhance, ImageOps

from tl_lightning.build import feature_options, gather
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments
from tl_lightning.data.images import inspection, load_rgb, near_copies
from tl_lightning.data.images.layout import find
from tl_lightning.data.images.pictures import near_pictures, same_pictures
from tl_lightning.evaluation.label_errors import out_of_fold
from tl_lightning.features.frozen import kept_rows
from tl_lightning.features.views import View

PLANTED, FLIPPED, SEEDS, TIMED = 150, 12, 10, 1500


def variants(image: Image.Image, random: np.random.Generator) -> dict[str, Image.Image]:
    """What becomes of a picture."""
    w, h = image.size
    dx, dy = round(w * 0.05), round(h * 0.05)
    x, y = random.integers(0, dx + 1), random.integers(0, dy + 1)
    return {
        "crop": image.crop((dx, dy, w - dx, h - dy)),
        "shifted": image.crop((x, y, x + w - dx, y + h - dy)),
        "mirror": ImageOps.mirror(image),
        "half": image.resize((max(1, w // 2), max(1, h // 2))),
        "encoded": image,
        "brighter": ImageEnhance.Brightness(image).enhance(1.2),
    }


def opened(root: Path) -> Callable[[str, int], Image.Image]:
    """What gives the images below a folder."""
    return lambda path, at_least: load_rgb(root / path, at_least)


def rates(root: Path, paths: list[str]) -> str:
    """Images a second: decoded by Pillow, looked at, and remembered."""
    paths, reading = paths[:TIMED], inspection.DEFAULT
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(5):
        began = time.perf_counter()
        for path in paths:
            with Image.open(root / path) as image:
                image.convert("RGB")
        seconds["pillow"].append(time.perf_counter() - began)
        began = time.perf_counter()
        for path in paths:
            inspection._finding(root / path, reading, inspection.DRAFT)
        seconds["look"].append(time.perf_counter() - began)
    inspection.look(root, paths)
    began = time.perf_counter()
    inspection.look(root, paths)
    warm = time.perf_counter() - began
    pillow, look = (len(paths) / float(np.median(seconds[name])) for name in ("pillow", "look"))
    return f"{pillow:.0f} | {look:.0f} | {look / pillow:.2f} | {len(paths) / warm:.0f}"


def digits(into: Path) -> list[str]:
    """scikit-learn's handwritten digits at 28 x 28 pixels."""
    from sklearn.datasets import load_digits

    names = []
    for i, image in enumerate(load_digits().images):
        levels = Image.fromarray((image / 16 * 255).astype(np.uint8))
        levels.resize((28, 28), Image.Resampling.BICUBIC).save(into / f"{i}.png")
        names.append(f"{i}.png")
    return names


def in_doubt(root: Path, paths: list[str]) -> str:
    """Pairs for each image that are nearly so alike as copies are, the most alike of them, and copies."""
    before = near_copies._SAME_EDGES, near_copies._UNSURE_SHARE
    near_copies._SAME_EDGES, near_copies._UNSURE_SHARE = -1.0, float("inf")
    try:
        pairs = near_copies.near_copies(paths, inspection.look(root, paths), opened(root))
    finally:
        near_copies._SAME_EDGES, near_copies._UNSURE_SHARE = before
    alike = np.array([pair.alike for pair in pairs])
    doubt = alike[(alike > near_copies._UNSURE_EDGES) & (alike <= before[0])]
    copies = (alike > before[0]).sum()
    return f"{len(doubt) / len(paths):.3f} | {doubt.max(initial=0):.2f} | {copies}"


def planted(root: Path, paths: list[str]) -> str:
    """Near copies that are there, and the share of each variant that is found."""
    natural = near_pictures(inspection.look(root, paths), opened(root), most=None)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        names = []
        for i in random.permutation(len(paths))[:PLANTED]:
            with Image.open(root / paths[i]) as image:
                made = variants(ImageOps.exif_transpose(image).convert("RGB"), random)
            for kind, picture in made.items():
                file = Path(scratch, f"{i} {kind}.jpg")
                picture.save(file, quality=60 if kind == "encoded" else 90)
                names.append((kind, paths[i], str(file)))
        every = [*(str(root / p) for p in paths), *(file for _, _, file in names)]
        findings = inspection.look(Path("/"), every)
        same = same_pictures(findings, near_pictures(findings, opened(Path("/")), most=None))
    found: dict[str, list[bool]] = defaultdict(list)
    for kind, source, file in names:
        found[kind].append(same[file] == same[str(root / source)])
    alike = min((p.alike for p in natural), default=float("nan"))
    return f"{len(natural)} ({alike:.2f}) | " + " | ".join(f"{np.mean(right):.3f}" for right in found.values())


def flipped(root: Path, more: list[str]) -> str:
    """Of flipped labels the mean that is among the first as many, how many are suspected, and truly so."""
    words = [f"data.root={root}", "backbone=mobilenet_v2", "trainer=cpu", "data.batch_size=1", *more]
    settings = settings_of(composed(arguments(words)))
    backbone, data, _ = gather(settings)
    options, wanted = feature_options(settings), [("train", View(data.eval_transform))]
    rows = kept_rows(backbone, len(backbone.stages), wanted, data, options, torch.device("cpu"), "")[0]
    features, true = np.asarray(rows, np.float32), data.samples.targets("train")

    def fit(known: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        solution = data.task.solve(known, targets)
        return lambda new: data.task.predictions(torch.from_numpy(new) @ solution.weight.T + solution.bias).numpy()

    first, suspected, right = [], [], []
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        wrong = random.choice(len(true), FLIPPED, replace=False)
        targets = true.copy()
        targets[wrong] = (true[wrong] + random.integers(1, len(data.task.outputs), FLIPPED)) % len(data.task.outputs)
        found = data.task.suspects(out_of_fold(features, targets, fit, np.arange(len(true)), targets), targets)
        places = [suspect.place for suspect in found]
        first.append(len(set(places[:FLIPPED]) & set(wrong)))
        suspected.append(len(places))
        right.append(len(set(places) & set(wrong)))
    every = ", ".join(map(str, first))
    return f"{np.mean(first):.1f} ({every}) | {np.mean(suspected):.1f} | {np.mean(right):.1f}"


def main() -> None:
    """Three tables, a line for each folder."""
    folders = [Path(word) for word in sys.argv[1:] if "=" not in word]
    more = [f"backbone.{word}" for word in sys.argv[1:] if "=" in word]
    listed = {folder: [i.path for i in find(folder).items] for folder in folders}
    print("| images | decoded by Pillow, images/s | looked at | ratio | remembered |\n|---|---|---|---|---|")
    for folder, paths in listed.items():
        print(f"| {folder.name} ({len(paths)}) | {rates(folder, paths)} |", flush=True)
    print("\n| images | pairs in doubt an image | most alike | above |\n|---|---|---|---|")
    for folder, paths in listed.items():
        print(f"| {folder.name} | {in_doubt(folder, paths)} |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        print(f"| digits | {in_doubt(Path(scratch), digits(Path(scratch)))} |", flush=True)
    print("\n| images | near copies (least alike) | crop | shifted | mirror | half | encoded | brighter |")
    print("|---|---|---|---|---|---|---|---|")
    for folder, paths in listed.items():
        print(f"| {folder.name} | {planted(folder, paths)} |", flush=True)
    print("\n| images | flipped among the first 12 | suspected | of them flipped |\n|---|---|---|---|")
    for folder in folders[:2]:
        print(f"| {folder.name} | {flipped(folder, more)} |", flush=True)


if __name__ == "__main__":
    main()
