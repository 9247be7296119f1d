"""Lets torchvision be imported beside a CPU build of torch, whoever imports it first; see `tl_lightning.compat`.

A copy lies in site-packages beside a .pth file, by which every Python of the environment imports it at its start: so it
imports nothing itself. Where torchvision's operators load, it changes nothing.
"""

import sys


class BeforeTorchvision:
    """Defines missing operators at the first import of torchvision, then steps aside."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Find nothing, but note that torchvision is asked for."""
        if name == "torchvision":
            sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "__name__", "") != "BeforeTorchvision"]
            try:
                from tl_lightning.compat import define_missing_operators
            except ImportError:  # the package is being removed, or this Python has no torch
                return
            define_missing_operators()


def install() -> None:
    """Be asked first, unless torchvision is there already or a copy of this module is asked."""
    there = any(getattr(f, "__name__", "") == "BeforeTorchvision" for f in sys.meta_path)
    if "torchvision" not in sys.modules and not there:
        sys.meta_path.insert(0, BeforeTorchvision)


install()
