"""TensorBoard event files below the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from lx.errors import LxError
from lx.tracking.context import RunContext, RunResults
from lx.tracking.csv import earlier_rows
from lx.tracking.media import figures, markdown


class TensorBoardTracker(TensorBoardLogger):
    """Lightning's TensorBoard logger, writing to ``RUN/tensorboard``: scalars, settings, tables and figures.

    When a run is resumed, TensorBoard drops what it has of that step and later ones; the row of the step itself, which
    is not logged again, comes from ``metrics.csv``.

    Raises:
        LxError: The ``tensorboard`` package is not installed.
    """

    def __init__(self, run: RunContext) -> None:
        self.check_settings({})
        super().__init__(save_dir=run.dir, name="tensorboard", version="", purge_step=run.step)
        self._run = run
        writer = self.experiment
        writer.purge_step = None  # Lightning closes the writer: when it is opened again, it must drop nothing
        rows = [[key, str(value)] for key, value in run.settings.items()]
        writer.add_text("settings", markdown(["setting", "value"], rows), run.step)
        self._written_at_start: set[str] = set()
        for step, row in earlier_rows(run):
            if step == run.step:
                self.log_metrics(row, step)
                self._written_at_start |= row.keys()

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Raise LxError unless the ``tensorboard`` package is installed."""
        if find_spec("tensorboard") is None:
            raise LxError(
                "logger=tensorboard needs the package tensorboard, which is not installed. "
                "Install it with: pip install 'lx[tensorboard]'"
            )

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        written = self._written_at_start if step == self._run.step else set()
        super().log_metrics({key: value for key, value in metrics.items() if key not in written}, step)

    @rank_zero_only
    def record_best(self, metrics: Mapping[str, float]) -> None:
        """Do nothing: TensorBoard shows every validation."""

    @rank_zero_only
    def record_results(self, results: RunResults) -> None:
        """Write the settings with the metrics that they led to, tables as text, and figures."""
        settings = {
            key: value if isinstance(value, int | float) else str(value) for key, value in self._run.settings.items()
        }
        metrics = {key if key.startswith("test/") else f"best/{key}": value for key, value in results.metrics.items()}
        self.log_hyperparams(settings, metrics, results.step)  # val/... is the curve
        for name, table in results.tables.items():
            self.experiment.add_text(f"{results.split}/{name}", markdown(table.columns, table.rows), results.step)
        for name, figure in figures(results):
            self.experiment.add_figure(f"{results.split}/{name}", figure, results.step)

    @rank_zero_only
    def finish(self, status: str, exit_code: int) -> None:
        """Write the end state as text."""
        self.experiment.add_text("status", status)
        self.finalize(status)
