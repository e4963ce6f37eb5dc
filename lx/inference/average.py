"""Several runs as one classifier: the mean of what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from lx.data.tokens.table import TokenTable
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.inference.classifier import Classifier
from lx.inference.evaluation_rows import EvaluationRows
from lx.inference.load import LoadedRun
from lx.inference.stream import Predictor, Scores, TextRow
from lx.system.hardware import Hardware
from lx.tasks.base import AveragingTask, can_be_averaged


def averaged_task(members: Sequence[LoadedRun]) -> AveragingTask:
    """Return the task of the mean over several runs.

    Raises:
        LxError: they have not the same task, classes, or kind of input.
    """
    first = members[0]
    for member in members:
        if type(member.task) is not type(first.task) or member.has_pairs != first.has_pairs:
            raise LxError(
                f"{first.directory.path} and {member.directory.path} have no average: they have different tasks"
            )
    tasks = [member.task for member in members if can_be_averaged(member.task)]
    if not tasks:
        raise LxError(
            f"{type(first.task).__name__} does not say what to average: see AveragingTask in lx/tasks/base.py"
        )
    try:
        return tasks[0].averaged(tasks)
    except LxError as error:
        names = ", ".join(str(member.directory.path) for member in members)
        raise LxError(f"the runs {names} have no average: {error}") from error


class Average(Predictor):
    """Predicts by the mean of the probabilities, or numbers, of several runs; all of them are in memory.

    Raises:
        LxError: they have not the same task, classes, or kind of input.
    """

    def __init__(self, members: Sequence[LoadedRun], hardware: Hardware, rank_info: RankInfo | None = None) -> None:
        self._averaged = averaged_task(members)
        super().__init__(self._averaged, rank_info or RankInfo(), num_ahead=0)
        self._members = [Classifier(member, hardware, rank_info) for member in members]

    @override
    def scores(self, rows: Sequence[TextRow]) -> Scores:
        outputs = [
            _task(member.loaded).outputs(*(part.cpu() for part in member.scores(rows))) for member in self._members
        ]
        return (self._averaged.logits_of(torch.stack(outputs).mean(dim=0)),)


def _task(member: LoadedRun) -> AveragingTask:
    assert can_be_averaged(member.task)
    return member.task


def build_predictor(
    members: Sequence[LoadedRun], hardware: Hardware, rank_info: RankInfo | None = None
) -> Classifier | Average:
    """Return what predicts with a run, or with the average of several."""
    if len(members) == 1:
        return Classifier(members[0], hardware, rank_info)
    return Average(members, hardware, rank_info)


def mean_outputs(
    members: Sequence[LoadedRun], chosen: EvaluationRows, hardware: Hardware, folder: Path
) -> tuple[TokenTable, NDArray[np.float64]]:
    """Compute the mean outputs of several runs for the rows of an evaluation, one run after the other.

    Args:
        members: the runs.
        chosen: the rows.
        hardware: where to compute.
        folder: for temporary files; the result is one of them, mapped into memory.

    Returns:
        The rows as the first run reads them, and the mean of the outputs [N, C].

    Raises:
        LxError: the runs have not the same test split.
    """
    for number, member in enumerate(members):
        own_folder = folder / str(number)
        own_folder.mkdir()
        table, expert = chosen.read(member, own_folder, warn=number == 0)
        if number == 0:
            first, shape = table, (len(table), member.task.num_outputs)
            mean = np.lib.format.open_memmap(folder / "mean.npy", "w+", np.float64, shape)
        elif not table.labels.equals(first.labels):
            raise LxError(
                f"{members[0].directory.path} and {member.directory.path} have different test splits: name one with "
                "data.test=FILE"
            )
        for rows, scores in Classifier(member, hardware).scores_of_rows(table, expert):
            mean[rows] += _task(member).outputs(*scores).numpy() / len(members)
    return first, mean
