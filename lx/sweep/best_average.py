"""Find how many of a sweep's best runs to average, by the predictions that each has kept of the validation split."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lx.errors import LxError
from lx.inference.average import averaged_task
from lx.inference.load import load_run
from lx.run.predictions import read_predictions
from lx.sweep.members import members
from lx.sweep.record import Record
from lx.system.output import say
from lx.tasks.base import Evaluation

if TYPE_CHECKING:
    from lx.sweep.state import Sweep

log = logging.getLogger(__name__)


_MOST_MEMBERS = 5


def choose_average(sweep: Sweep) -> None:
    """Record in ``sweep.json`` how many of the best runs to average for the best objective, and print it."""
    record = Record.read(sweep.directory)
    try:
        runs = members(sweep.directory, _MOST_MEMBERS)
        count, objectives = best_average(runs, record.metric, record.mode)
    except LxError as error:
        log.warning("the best runs were not averaged: %s", error)
        return
    replace(record, top=count).write(sweep.directory)
    alone, together = objectives[0], objectives[count - 1]
    best = f"the best run: {record.metric} {alone:.4f}"
    text = best if count == 1 else f"the average of the best {count} runs: {record.metric} {together:.4f}; {best}"
    say(f"{text}. To use it: lx predict {shlex.quote(str(sweep.directory))}", sys.stderr)


def best_average(runs: Sequence[Path], metric: str, mode: str) -> tuple[int, list[float]]:
    """Return how many of the best runs to average for the best objective on validation; the loss decides a tie.

    Args:
        runs: directories of finished runs on the same validation split, the best first.
        metric: the objective, such as ``val/accuracy``.
        mode: ``max`` or ``min``.

    Returns:
        The number of runs, and the objective of the average of the best 1, 2, ... of them.

    Raises:
        LxError: the runs cannot be averaged.
    """
    loaded = [load_run(run) for run in runs]
    task = averaged_task(loaded)
    predictions = [read_predictions(run.directory).splits["validation"] for run in loaded]
    labels = task.collate(_encoded(predictions[0].labels))
    evaluations: list[Evaluation] = []
    for count in range(1, len(runs) + 1):
        mean = np.mean([split.scores for split in predictions[:count]], axis=0, dtype=np.float64)
        task = averaged_task(loaded[:count])
        metrics = task.metrics(choose=False)
        metrics.update(task.logits_of(torch.from_numpy(mean)), labels)
        evaluations.append(task.summarize(metrics.compute(), choose=False))
    sign = 1.0 if mode == "max" else -1.0
    objectives = [evaluation.scalars[metric.removeprefix("val/")] for evaluation in evaluations]
    losses = [evaluation.scalars["loss"] for evaluation in evaluations]
    scores = [(sign * objective, -loss) for objective, loss in zip(objectives, losses, strict=True)]
    return scores.index(max(scores)) + 1, objectives


def _encoded(labels: NDArray[Any]) -> pa.Array:
    """Return label sets [N, C] as lists of label ids, and other labels [N] as they are: as the task encodes them."""
    if labels.ndim == 2:
        return pa.array([np.flatnonzero(row) for row in labels], pa.list_(pa.int32()))
    return pa.array(labels)
