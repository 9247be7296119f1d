"""The report that a finished training leaves, and its figures in TensorBoard."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

from torch import nn

from tl_lightning.backbones.weights import first_line
from tl_lightning.build import Setup
from tl_lightning.callbacks.collecting import Collect
from tl_lightning.config.settings import Settings
from tl_lightning.jobs.board import show
from tl_lightning.jobs.judge import Judge
from tl_lightning.jobs.report import report
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model

log = logging.getLogger(__name__)

EMBEDDED = 256  # validation samples in TensorBoard's projector


def end_report(folder: RunFolder, settings: Settings, setup: Setup, collect: Collect, allow: Sequence[str]) -> None:
    """report.html of a run that has just been written, and its figures to the loggers.

    The model is safe by now: what goes wrong here is said, and ends nothing.
    """
    try:
        network = copy.deepcopy(nn.Sequential(setup.module.backbone, setup.module.head)).cpu().float().eval()
        model = Model(network, setup.module.task, folder.facts())
        sizes = {split: setup.data.samples.size(split) for split in ("val", "test")}
        known = {split: values for split, values in collect.outputs().items() if len(values) == sizes[split]}
        judge = Judge(model, setup.data, settings, known)
        made = report(model, judge, folder, allow=allow)
        show(setup.trainer.loggers, judge, made.evaluations, collect.features())
        log.info(f"report    {made.path}")
    except Exception as error:  # a name that no font has, a disk that is full
        log.warning(f"report    not made ({first_line(error)}): tl report run={folder.path}")
