"""How long a trained network takes to predict one text."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from lightning.pytorch import Trainer

from lx.data.datamodule import TextDataModule
from lx.training.module import TextClassifier

_TEXTS = 20
_ROUNDS = 3  # after one that warms up


def prediction_latency(trainer: Trainer, module: TextClassifier, data: TextDataModule) -> float:
    """Measure a prediction of one text at a time, from its tokens in memory to its logits there, without an expert.

    Args:
        trainer: whose device and precision are used.
        module: the trained network; every rank calls this with its own.
        data: texts are taken evenly from the validation split.

    Returns:
        Milliseconds: the median.
    """
    rows = np.linspace(0, len(data.tables["validation"]) - 1, _TEXTS).astype(np.int64)
    batches = [data.batch("validation", rows[index : index + 1]) for index in range(_TEXTS)]
    device = trainer.strategy.root_device
    module.to(device).eval()
    times = []
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for _ in range(1 + _ROUNDS):
            for batch in batches:
                started = time.perf_counter()
                module.scores(batch.to(device))[0].cpu()
                times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[_TEXTS:])
