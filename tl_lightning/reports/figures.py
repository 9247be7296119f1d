"""What a network answered against what was true, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_TILE, _GAP, _LINE = 128, 8, 24  # pixels: an image's width, what lies between two, and what its label takes


def confusion_figure(counts: Tensor, classes: Sequence[str]) -> Figure:
    """A picture of a confusion matrix (C, C): shade by share of the true class, counts written in up to 30 classes."""
    n = len(classes)
    side = min(14.0, max(3.0, 0.34 * n + 1.1))  # in inches: letters stay large in a small card
    figure = Figure(figsize=(side, side), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if n <= 100:
        axes.set_xticks(range(n), labels=list(classes), rotation=90, parse_math=False)  # a name may hold dollars
        axes.set_yticks(range(n), labels=list(classes), parse_math=False)
    if n <= 30:
        for row, column in torch.nonzero(counts).tolist():
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", color=colour)
    return figure


def classes_figure(counts: Tensor, classes: Sequence[str]) -> Figure:
    """A table of counts (C, 2, 2) of each class: samples, precision, recall and F1, shaded by their values."""
    hits, answered, support = counts[:, 1, 1], counts[:, :, 1].sum(1), counts[:, 1].sum(1)
    values = torch.stack([hits / answered, hits / support, 2 * hits / (answered + support)], 1)  # (C, 3)
    figure = Figure(figsize=(5.5, 0.3 * len(classes) + 0.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values.nan_to_num().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    axes.set_xticks(range(3), labels=["precision", "recall", "F1"])
    named = [f"{name} ({int(count)})" for name, count in zip(classes, support, strict=True)]
    axes.set_yticks(range(len(classes)), labels=named, parse_math=False)
    for row, column in torch.nonzero(~values.isnan()).tolist():
        value = float(values[row, column])
        colour = "white" if value > 0.5 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    return figure


def scatter_figure(pairs: Tensor, columns: Sequence[str]) -> Figure:
    """Predicted against true values (2, N, K), one panel for each column, with the line on which they are equal."""
    figure = Figure(figsize=(4.2 * len(columns), 4), dpi=120, layout="constrained")
    for k, column in enumerate(columns):
        predicted, true = pairs[0, :, k].numpy(), pairs[1, :, k].numpy()
        axes = figure.add_subplot(1, len(columns), k + 1)
        ends = [float(min(predicted.min(), true.min())), float(max(predicted.max(), true.max()))]
        axes.plot(ends, ends, color="grey", linewidth=1)
        axes.scatter(true, predicted, s=9, alpha=0.5)
        axes.set_xlabel(f"{column}, true", parse_math=False)
        axes.set_ylabel("predicted")
    return figure


def tiles(images: Tensor, labels: Sequence[str], columns: int = 4) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] in rows, each under its label, as one (3, H', W').

    By Pillow, and small: encoding takes most of the time, and every job of a sweep has its own.
    """
    width, height = _TILE, round(_TILE * images.shape[2] / images.shape[3])
    canvas = Image.new("RGB", (columns * (width + _GAP), -(-len(images) // columns) * (height + _LINE)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.truetype(findfont("DejaVu Sans"), _LINE - 10)
    for i, image in enumerate(images):
        left, top = i % columns * (width + _GAP) + _GAP // 2, i // columns * (height + _LINE) + _LINE
        pixels = (image.clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()
        canvas.paste(Image.fromarray(pixels).resize((width, height)), (left, top))
        label = " ".join(labels[i].split()) if i < len(labels) else ""
        while draw.textlength(label, font) > width:
            label = f"{label.removesuffix('...')[:-1]}..."
        draw.text((left + width // 2, top - 7), label, "black", font, anchor="ms")
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1) / 255


# Task.picture: how a task's overview is drawn, given the names of its outputs.
FIGURES: Mapping[str, Callable[[Tensor, Sequence[str]], Figure]] = {
    "classes": classes_figure,
    "confusion": confusion_figure,
    "scatter": scatter_figure,
}
