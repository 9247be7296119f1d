"""Somebody's images or texts, as batches."""

from tl_lightning import lazy

__getattr__ = lazy.exports(
    __name__,
    {
        "ImageAugmentation": "images.transforms",
        "LabelledData": "datamodule",
        "image_folder": "images.image_datamodule",
        "text_table": "texts.text_datamodule",
    },
)
