"""Somebody's images or texts, as batches."""

from tl_lightning import lazy

__getattr__ = lazy.exports(
    __name__,
    {
        "ImageAugmentation": "images.transforms",
        "LabelledData": "datamodule",
        **dict.fromkeys(("image_folder", "manifest"), "images.image_datamodule"),
        "image_shards": "images.shards.shard_datamodule",
        "image_dataset": "images.image_dataset",
        "text_table": "texts.text_datamodule",
    },
)
