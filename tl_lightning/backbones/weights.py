"""Pretrained parameters: read from a local file, and fitted to a network key by key."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Under what training scripts keep the parameters in their checkpoints, the first that is there.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "ema", "params")


def local(weights: str | None) -> Path | None:
    """The file that `weights` names, if it looks like one; UserError if it is not there."""
    if not isinstance(weights, str) or not weights.endswith(SUFFIXES):
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    return path


def of_file(path: Path) -> dict[str, Tensor]:
    """Parameters in float32 from a local file; UserError if it holds anything else."""
    return single(_read(path))


def single(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same parameters in float32; counters as they are."""
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"weights file {path} cannot be read: {first_line(error)}") from error
    except Exception as error:  # pickle's errors have no common base; weights_only refuses anything but tensors
        raise UserError(
            f"weights file {path} holds more than plain tensors and is not loaded: {first_line(error)}"
        ) from error
    wrappers = [key for key in _WRAPPERS if isinstance(state, dict) and isinstance(state.get(key), dict)]
    if wrappers:
        log.info(f"weights file {path}: '{wrappers[0]}' is taken of {', '.join(map(str, state))}")
        state = state[wrappers[0]]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"weights file {path} is no state dict: it must map parameter names to tensors")
    return state


def first_line(error: BaseException) -> str:
    """An exception's message up to its first line break."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def fit(net: nn.Module, state: dict[str, Tensor], heads: Sequence[str], unused: Sequence[str], source: str) -> bool:
    """Load `state` into `net`; True if the classifier under `heads` came along.

    Keys under `unused` prefixes belong to parts that the backbone leaves out. A classifier of another size is
    dropped with one line. Raises UserError, which lists them, for keys otherwise missing, unexpected or misshapen.
    """
    want = net.state_dict()
    _refuse_infinite(state, source)
    state = {k: v for k, v in _without_prefix(state, want, source).items() if not _under(k, unused)}
    # a run's file has its new head under "head."
    classifier = [k for k in sorted({*want, *state}) if _under(k, heads) or (k not in want and _under(k, ("head",)))]
    kept = bool(classifier) and all(k in want and k in state and want[k].shape == state[k].shape for k in classifier)
    if not kept:
        if sizes := [str(len(state[k])) for k in classifier if k in state and state[k].ndim]:
            log.info(f"the classifier in {source} is for {sizes[-1]} classes, not the source's, and is dropped")
        state = {k: v for k, v in state.items() if k not in classifier}
        want = {k: v for k, v in want.items() if k not in classifier}
    faults = {
        "missing": [k for k in want if k not in state and not k.endswith("num_batches_tracked")],
        "unexpected": [k for k in state if k not in want],
        "of another shape": [k for k in state if k in want and state[k].shape != want[k].shape],
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in faults.items() if keys)
        raise UserError(f"weights {source} are of another architecture than {type(net).__name__}: {listed}")
    put(net, state, strict=False)
    return kept


def put(net: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load weights that came without their modules' versions, which some networks ask for (MNASNet): as its own are."""
    versioned = OrderedDict(state)
    versioned._metadata = net.state_dict()._metadata  # type: ignore[attr-defined]
    net.load_state_dict(versioned, strict)


def _refuse_infinite(state: Mapping[str, Tensor], source: str) -> None:
    if broken := [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]:
        raise UserError(
            f"weights {source} hold values that are not finite, in {_some(broken)}: the file is damaged, or its "
            "training diverged; take another"
        )


def _without_prefix(state: dict[str, Tensor], want: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The parameters under the network's own names: DDP, torch.compile and Lightning's modules put some before them.

    Raises UserError where several networks are in one file.
    """
    if not want or any(k in state for k in want):
        return state
    last = max(want, key=len)
    prefixes = [k.removesuffix(last) for k in state if k.endswith(f".{last}")]
    if not prefixes:
        return state
    if len(prefixes) > 1:
        raise UserError(f"weights {source} hold several networks, under {' and '.join(prefixes)}: save the one alone")
    prefix = prefixes[0]
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    aside = f", {len(state) - len(found)} other tensors are left aside" if len(found) < len(state) else ""
    log.info(f"weights {source}: the prefix '{prefix}' is taken off{aside}")
    return found


def _under(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == p or key.startswith(p + ".") for p in prefixes)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:4]) + (" ..." if len(keys) > 4 else "")
