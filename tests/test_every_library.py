"""What the learner promises, for backbones of each library: resuming, freezing and caching change nothing."""

import lightning as L
import pytest
import torch

from tests.frozen import CPU
from tests.texts import write_texts
from tests.tiny import tiny_trainer
from tests.zoo import FEW
from tl_lightning import heads, optim
from tl_lightning.data import image_folder
from tl_lightning.data.images.transforms import ImageAugmentation
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.module import TransferModule
from tl_lightning.strategies import FinetuneTop, GradualUnfreeze

few = pytest.mark.parametrize("case", FEW, ids=str)
STILL = ImageAugmentation(None, 0.0)


@pytest.fixture
def made(photos, tmp_path):
    """Makes a learner and its data for a case and a strategy."""

    def make(case, strategy):
        network, _ = case.build()
        if case.library == "text":
            from tl_lightning.data import text_table

            file = write_texts(tmp_path / "x.csv")
            data = text_table(network.input, file=str(file), batch_size=4)
        else:
            data = image_folder(network.input, root=str(photos), augment=STILL, batch_size=4, workers=0)
        torch.manual_seed(2)
        head = heads.linear(network.feature_dim, data.task.start(), dropout=0.2)
        plan = strategy.plan(network.stage_names)
        module = TransferModule(network, head, plan, data.task, lambda g: torch.optim.AdamW(g, 1e-2), optim.cosine())
        return module, data, plan

    return make


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


@few
def test_resuming_equals_never_stopping(case, made, tmp_path):
    stages = len(case.build()[0].stages)
    strategy = GradualUnfreeze(every=1, speed=0.1, decay=0.5, norm="eval")
    epochs, stop = stages + 1, stages - 1

    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            trainer.should_stop = trainer.current_epoch + 1 == stop

    module, data, _ = made(case, strategy)
    tiny_trainer(tmp_path / "whole", epochs, limit_train_batches=2).fit(module, datamodule=data)
    expected = state(module)
    module, data, _ = made(case, strategy)
    tiny_trainer(tmp_path / "part", epochs, Stop(), limit_train_batches=2).fit(module, datamodule=data)
    assert any(not torch.equal(v, expected[k]) for k, v in state(module).items())
    module, data, _ = made(case, strategy)
    checkpoint = str(tmp_path / "part" / "checkpoints" / "last.ckpt")
    trainer = tiny_trainer(tmp_path / "part", epochs, limit_train_batches=2)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    assert [k for k, v in state(module).items() if not torch.equal(v, expected[k])] == []


@few
def test_frozen_stages_are_bit_identical_and_cached_rows_train_alike(case, made, tmp_path):
    strategy, found = FinetuneTop(stages=1, speed=0.1, decay=0.5, norm="eval"), []
    before = state(made(case, strategy)[0])
    for cache in ("auto", "off"):
        module, data, plan = made(case, strategy)
        frozen = Frozen(module.backbone, plan, data, Options(cache, "eager", "float32"))
        loaders, module.input_stage = frozen.loaders(CPU, 2)
        assert (loaders is data) == (cache == "off")
        tiny_trainer(tmp_path / cache, 2).fit(module, datamodule=loaders)
        found.append(state(module))
    top = module.backbone.stages[-1]
    for key in before:
        name = key.removeprefix("backbone.net.")
        moved = [not torch.equal(after[key], before[key]) for after in found]
        if key.startswith("backbone.net.") and not top.owns(name):
            assert moved == [False, False], key
        elif found[0][key].is_floating_point() and any(moved):
            way = (found[1][key] - before[key]).norm()
            # of a key's bias the gradient is zero: what moves it is rounding
            assert (found[0][key] - found[1][key]).norm() <= 0.02 * way + 1e-6, key
    assert any(not torch.equal(found[0][k], before[k]) for k in before if top.owns(k.removeprefix("backbone.net.")))
