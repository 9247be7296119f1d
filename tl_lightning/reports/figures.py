"""What a network answered against what was true, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor


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


def tiles_figure(images: Tensor, labels: Sequence[str], columns: int = 4) -> Figure:
    """Images (N, 3, H, W) in [0, 1] in rows, each under its label."""
    rows, (height, width) = -(-len(images) // columns), images.shape[2:]
    line, gap = max(1, height // 7), width // 16  # for a label above each image, and between images
    canvas = torch.ones(3, rows * (height + line), columns * (width + gap))
    figure = Figure(figsize=(1.6 * columns, 1.6 * rows * (height + line) / (width + gap)), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: an axes for each image takes twenty times as long
    axes.set_axis_off()
    for i, image in enumerate(images):
        top, left = i // columns * (height + line) + line, i % columns * (width + gap) + gap // 2
        canvas[:, top : top + height, left : left + width] = image.cpu()
        label = labels[i][:24] if i < len(labels) else ""
        axes.text(left + width / 2, top - line / 4, label, fontsize=8, ha="center", parse_math=False)
    axes.imshow(canvas.permute(1, 2, 0).numpy())
    return figure


# Task.picture: how a task's overview is drawn, given the names of its outputs.
FIGURES: Mapping[str, Callable[[Tensor, Sequence[str]], Figure]] = {
    "confusion": confusion_figure,
    "scatter": scatter_figure,
}
