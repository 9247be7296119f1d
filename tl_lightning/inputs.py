"""What pretrained weights expect of an image: shared by backbones and data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tl_lightning.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ImageInput:
    """Geometry and normalisation of one set of weights, in pixels and in units of [0, 1].

    Training crops of `size`; evaluation resizes the short side to `eval_resize` and cuts `eval_size` from the
    centre. The two sizes differ where the weights were trained so (the FixRes effect, arXiv:1906.06423).
    """

    size: int
    eval_size: int
    eval_resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_size: int = 1

    def __post_init__(self) -> None:
        if min(self.size, self.eval_size) < self.min_size:
            raise UserError(
                f"image_size={min(self.size, self.eval_size)} is too small for this backbone: it needs at least "
                f"{self.min_size} pixels"
            )

    @property
    def train_resize(self) -> int:
        """Short side before a deterministic training crop: the evaluation geometry, scaled to `size`."""
        return round(self.size * self.eval_resize / self.eval_size)

    def at(self, size: int) -> ImageInput:
        """The same weights fed `size` pixels, for training and evaluation alike; resize keeps its ratio to the crop."""
        return replace(self, size=size, eval_size=size, eval_resize=round(size * self.eval_resize / self.eval_size))

    def normalise(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) of 0..255 to float32 of zero mean and unit spread on the images' device, in `out` if given."""
        floats = images[:0].float()
        mean, std = (floats.new_tensor(v).view(-1, 1, 1) * 255 for v in (self.mean, self.std))
        shifted = images - mean if out is None else out.copy_(images).sub_(mean)
        return shifted.div_(std)

    def restore(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`, as floats in [0, 1]: for pictures that people look at."""
        mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)
