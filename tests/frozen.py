"""A tiny frozen network and its rows, for tests of what is computed once."""

import torch

from tests.tiny import STAGES, tiny_backbone, tiny_data
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.features.engine import Prefix
from tl_lightning.features.extract import Extractor
from tl_lightning.features.views import View
from tl_lightning.store import Store
from tl_lightning.strategies.plan import Facts

CPU = torch.device("cpu")


PRETRAINED = Facts(pretrained=True, small_rates=True, outputs=2, train_samples=20)


def plan_of(strategy):
    return strategy.given(PRETRAINED).plan(STAGES)


def warmed(pretrained=True):
    """The tiny backbone with BatchNorm statistics as of use."""
    backbone = tiny_backbone(pretrained).train()
    for _ in range(20):
        backbone(torch.randn(16, 3, 16, 16))
    return backbone.eval()


def extract(root, network=None, boundary=3, dtype="float16", view=None, store="features", data=None):
    data = data or tiny_data(root)
    prefix = Prefix(network or warmed(), boundary, "fused", CPU, 100)
    extractor = Extractor(prefix, data, Store(store) if store else None, dtype, show=False)
    view = view or View(eval_transform(data.input))
    return extractor.rows([("train", view), ("val", view)]), extractor


def reference(root, network, boundary=3, split="train", mirrored=False):
    data = tiny_data(root)
    images = data.images(split, eval_transform(data.input), keep=False)
    pixels = torch.stack([images[i, 0][0] for i in range(len(images))])
    with torch.no_grad():
        return network.below(data.input.normalise(pixels.flip(-1) if mirrored else pixels), boundary)
