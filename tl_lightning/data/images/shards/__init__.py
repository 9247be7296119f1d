"""Images in shards: tar files, as webdataset writes them, and Parquet."""

from tl_lightning import lazy

__getattr__ = lazy.exports(__name__, {"image_shards": "shard_datamodule"})
