"""Where Hydra looks for launchers: what they do stands in tl_lightning/cli/."""

from tl_lightning.cli import on_ray


class RayLauncher(on_ray.OnRay):
    """Jobs as Ray's remote functions."""
