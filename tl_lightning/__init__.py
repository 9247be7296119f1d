"""Fine-tune pretrained networks on your own data.

Importing the package imports neither torch nor Hydra; it only arranges that torchvision can be imported
beside a CPU build of torch (see `tl_lightning.torchvision_ops`).
"""

from tl_lightning import torchvision_ops

__version__ = "0.1.0"

torchvision_ops.install()
