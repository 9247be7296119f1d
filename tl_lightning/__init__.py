"""Fine-tune pretrained networks on your own data.

    import tl_lightning as tl
    run = tl.train("photos", backbone="resnet50", strategy="finetune_top")
    run = tl.load("outputs/2026-11-27/10-00-00")

Importing the package imports neither torch nor Hydra; it only arranges that torchvision can be imported beside a CPU
build of torch (see `tl_lightning.compat`).
"""

from tl_lightning import lazy, torchvision_hook

__version__ = "0.2.0"
__all__ = ["UserError", "advise", "backbones", "doctor", "load", "strategies", "train"]

torchvision_hook.install()

__getattr__ = lazy.exports(
    __name__,
    {
        "UserError": "errors",
        **dict.fromkeys(("advise", "doctor", "train"), "api"),
        **dict.fromkeys(("backbones", "strategies"), ""),
        "load": "run",
    },
)
