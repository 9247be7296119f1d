"""What pretrained weights expect of an image, and how files become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import ImageColor

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.normaliser import Normaliser

if TYPE_CHECKING:
    from torch import Tensor

_CORNER = 7 / 8  # of the sides


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    `levels`: the highest grey level of files of 16 bits, of which cameras fill 10, 12 or 14. `ground`: the colour
    behind what is transparent. `max_megapixels` that may be decoded of one image, after a JPEG was decoded at a
    fraction of its size. Raises UserError for a colour that there is not.
    """

    levels: int = 65535
    ground: str = "white"
    max_megapixels: float = 178.0

    def __post_init__(self) -> None:
        checks.number("data.max_megapixels", self.max_megapixels, 0.01)
        try:
            ImageColor.getrgb(str(self.ground))
        except ValueError as error:
            raise UserError(f"data.ground={self.ground} is no colour: say white, black, or '#808080'") from error


@dataclass(frozen=True)
class ImageInput:
    """Geometry and normalisation of one set of weights, in pixels and in units of [0, 1].

    Training crops of `size`; evaluation resizes the short side to `eval_resize` and cuts `eval_size` from the
    centre. The two sizes differ where the weights were trained so (the FixRes effect, arXiv:1906.06423). `reading` is
    what the data add: how the files are read.
    """

    size: int
    eval_size: int
    eval_resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_size: int = 1
    reading: Reading = field(default=Reading(), compare=False)
    noun: ClassVar[str] = "images"
    fixed_size: ClassVar[bool] = True
    raw_axes: ClassVar[Mapping[str, Mapping[int, str]]] = {"images": {0: "n"}}  # what an exported network is given
    example: ClassVar[str] = "onnx_images.py"  # of a program that gives it
    pipeline: ClassVar[str] = "image-classification"  # as hubs call it
    in_threads: ClassVar[bool] = True  # whether several may be read at a time
    at_once: ClassVar[int] = 8  # on a CPU, where nothing is trained: more take more memory and no less time

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

    def __str__(self) -> str:
        return f"{self.size} px" + (f", evaluated at {self.eval_size}" if self.eval_size != self.size else "")

    def facts(self) -> dict[str, Any]:
        """What a run keeps of it."""
        return asdict(self)

    def read_as(self, facts: Mapping[str, Any]) -> ImageInput:
        """The same with the reading that `facts` of a run tell of; as it is where they tell of none."""
        return replace(self, reading=Reading(**facts["reading"])) if facts.get("reading") else self

    def at_most(self, megapixels: float) -> ImageInput:
        """The same, of no image more than so many megapixels being decoded."""
        return replace(self, reading=replace(self.reading, max_megapixels=megapixels))

    @property
    def meaning(self) -> str:
        """What the output of a network depends on beside the pixels that it is given."""
        return repr((self.mean, self.std))

    def blank(self, like: Tensor, number: int = 1) -> Tensor:
        """So many grey images (N, 3, H, W) of the evaluation's size, on the device of `like`."""
        return like.new_zeros(number, 3, self.eval_size, self.eval_size)

    def normalise(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) of 0..255 to float32 of zero mean and unit spread on the images' device, in `out` if given."""
        floats = images[:0].float()
        mean, std = (floats.new_tensor(v).view(-1, 1, 1) * 255 for v in (self.mean, self.std))
        shifted = images - mean if out is None else out.copy_(images).sub_(mean)
        return shifted.div_(std)

    def views(self, tta: str) -> tuple[Callable[[Tensor], Tensor], ...]:
        """Forms of the same images (N, 3, H, W), of whose outputs the mean is taken.

        Themselves; "flip": and their mirror images; "crops": of both also the four corners, enlarged. Raises UserError
        for any other word.
        """
        checks.one_of("tta", tta, ("", "flip", "crops"))
        if not tta:
            return (lambda x: x,)
        whole: list[Callable[[Tensor], Tensor]] = [lambda x: x, lambda x: x.flip(-1)]
        corners = [_corner(*at) for at in product((False, True), repeat=3)] if tta == "crops" else []
        return (*whole, *corners)

    def made_up(self, number: int) -> Tensor:
        """So many images (N, 3, H, W) of noise of 0..255, the same every time."""
        import torch

        drawn = torch.Generator().manual_seed(0)
        shape = (number, 3, self.eval_size, self.eval_size)
        return torch.randint(0, 256, shape, generator=drawn, dtype=torch.uint8)

    def thumbnails(self, images: Tensor, side: int) -> Tensor | None:
        """Images (N, 3, H, W) of 0..255 as small pictures (N, 3, side, side) in [0, 1]."""
        from torch.nn.functional import interpolate

        return interpolate(images.float() / 255, (side, side), mode="area")

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """What an exported network is given of images (N, 3, H, W) of 0..255: (N, H, W, 3), as other libraries do."""
        return (images.permute(0, 2, 3, 1).contiguous(),)

    def write_beside(self, folder: Path) -> None:
        """What a program needs beside an exported network: nothing."""

    def of_raw(self, images: Tensor) -> Tensor:
        """Normalised (N, 3, H, W) of what `raw` gave, (N, H, W, 3)."""
        return self.normalise(images.permute(0, 3, 1, 2).float())

    def normaliser(self) -> Callable[[Tensor], Tensor]:
        """`normalise` into the same memory each time: glibc before 2.38 would not find that of a batch (its bug 14581).

        What it gave for images (N, 3, H, W) is overwritten by the next ones of their size.
        """
        return Normaliser(self)

    def restore(self, images: Tensor) -> Tensor:
        """The inverse of `normalise` for (N, 3, H, W), as floats in [0, 1]: for pictures that people look at."""
        mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)


def _corner(low: bool, right: bool, mirrored: bool) -> Callable[[Tensor], Tensor]:
    """A view of a corner of images (N, 3, H, W), seven eighths of their sides, as large as they are."""

    def view(images: Tensor) -> Tensor:
        from torch.nn.functional import interpolate

        height, width = images.shape[-2:]
        top, left = low * (height - round(height * _CORNER)), right * (width - round(width * _CORNER))
        part = images[..., top : top + round(height * _CORNER), left : left + round(width * _CORNER)]
        enlarged = interpolate(part, (height, width), mode="bilinear")
        return enlarged.flip(-1) if mirrored else enlarged

    return view
