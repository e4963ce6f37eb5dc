"""Weights & Biases: a run's config, metrics, results and end state.

W&B is a record, not a part of training: when it fails, one warning says so and training goes on.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lx.errors import first_line
from lx.system.private_api import ignoring_experiment
from lx.tracking.context import RunContext, RunResults, never_raising
from lx.tracking.csv import earlier_rows
from lx.tracking.wandb_arguments import check_names, client_settings, identity
from lx.tracking.wandb_media import as_panel, as_wandb, model_artifact, save_diff, staging_below
from lx.tracking.wandb_mode import Mode, choose_mode
from lx.tracking.wandb_parts import Part, last_row, parts_of

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger(__name__)
# W&B's number of a row: that of the optimizer step, times ten, plus that of the kind.
_ROWS_A_STEP = 10
_TRAINING, _VALIDATION, _RESULTS = 0, 4, 8


class WandbTracker(WandbLogger):
    """Lightning's W&B logger with a run of its own, started at once, that never fails training.

    ``RUN/wandb`` holds its files. Where W&B cannot be reached at the start, or has not yet got what was recorded
    offline before, the run is recorded offline. Inside a W&B agent it is the agent's run, and the agent's project and
    entity win.

    Charts have the optimizer step as their axis. W&B's own row number follows from that step, so that a resumed run
    leaves out the rows that the record holds already; those that were lost with a killed client come from
    ``metrics.csv``.

    Args:
        run: The run's facts; name, config, overrides, revision and data go into the record.
        project: W&B project; None: WANDB_PROJECT, wandb's settings file, or ``lx``.
        entity: W&B user or team; None: WANDB_ENTITY or the account's default.
        group: Name under which W&B groups runs; None: WANDB_RUN_GROUP, or the experiment that was chosen.
        job_type: What kind of run it is, within its group; None: WANDB_JOB_TYPE or ``train``.
        tags: Labels to filter by.
        notes: Free text.
        mode: ``auto``, ``online``, ``offline`` or ``disabled``; see
            :func:`lx.tracking.wandb_mode.choose_mode`.
        init_timeout: Seconds to wait for W&B at the start.
        finish_timeout: Seconds to wait for the upload at the end; what is left can be synced later.
        log_model: Keep the best checkpoint, with what prediction needs beside it, as an artifact.
        report: Show the run's report as a panel; ``auto``: unless it is a trial of a sweep.

    Raises:
        LxError: ``mode`` is unknown, or asks for credentials that are not there.
    """

    def __init__(
        self,
        run: RunContext,
        *,
        project: str | None,
        entity: str | None,
        group: str | None,
        tags: Sequence[str],
        notes: str | None,
        mode: str,
        init_timeout: float,
        finish_timeout: float,
        job_type: str | None = None,
        log_model: bool = False,
        report: bool | str = "auto",
    ) -> None:
        self._run, self._keeps_model = run, log_model
        self._shows_report = job_type != "trial" if report == "auto" else bool(report)
        self._parts = parts_of(run.dir)  # of earlier sessions
        self._is_new = not self._parts and run.step == 0
        self._arguments: dict[str, Any] = {
            **identity(run, project, entity, group, job_type),
            "tags": list(tags) or None,
            "notes": notes,
            "id": self._parts[-1].id if self._parts else run.id,
            # A new run is written from its first row on, so that an interrupted upload can be repeated.
            "resume": None if self._is_new and not run.agent else "allow",
            "dir": str(run.dir),
            "config": run.settings,
            "reinit": "create_new",  # a run that the caller has open is not ours to write to or to finish
        }
        super().__init__(name=run.name, save_dir=run.dir, project=self._arguments["project"])
        self._settings = client_settings(init_timeout, finish_timeout)
        self._last_row = -1  # that earlier sessions have recorded
        self._part: Part | None = None
        self._experiment: Run | None = self._start(*choose_mode(mode))

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Check the mode, as :func:`lx.tracking.wandb_mode.choose_mode` does, and the names."""
        if choose_mode(settings["mode"])[0] != "disabled":
            check_names(settings)

    @property
    def experiment(self) -> Any:
        """The ``wandb.Run``; a stand-in that ignores every call on other ranks or without W&B."""
        return self._experiment if self._experiment is not None else ignoring_experiment()

    @property
    def sync_command(self) -> str | None:
        """The command that uploads what is on this machine alone; None if there is nothing."""
        unsent = self._part is not None and self._part.is_unsent
        return shlex.join(["lx", "sync", str(self._run.dir)]) if unsent else None

    def log_hyperparams(self, params: Any) -> None:
        """Do nothing: the resolved config went into the record at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write values against ``trainer/global_step``, unless an earlier session has."""
        kind = _VALIDATION if any(key.startswith("val/") for key in metrics) else _TRAINING
        with self._never_raising("write metrics"):
            self._log(metrics, step, kind)

    @rank_zero_only
    def record_best(self, metrics: Mapping[str, float]) -> None:
        """Write the metrics of the best validation into the summary, which has the last ones without it."""
        if self._experiment is not None:
            with self._never_raising("write the summary"):
                self._experiment.summary.update(dict(metrics))

    @rank_zero_only
    def record_results(self, results: RunResults) -> None:
        """Write metrics into the summary, and tables as tables or charts."""
        if self._experiment is None:
            return
        with self._never_raising("write the results"), staging_below(self._run.dir):
            self._experiment.summary.update(dict(results.metrics))
            if results.tables:
                tables = {f"{results.split}/{name}": as_wandb(table) for name, table in results.tables.items()}
                self._log(tables, results.step, _RESULTS)
            if self._keeps_model and results.checkpoint is not None:
                artifact = model_artifact(self._run, results)
                self._experiment.log_artifact(artifact, aliases=["latest", "best", f"step-{results.step}"])

    @property
    def wants_report(self) -> bool:
        """Whether :meth:`record_report` does something."""
        return self._experiment is not None and self._shows_report

    @rank_zero_only
    def record_report(self, path: Path) -> None:
        """Show an HTML file as a panel."""
        with self._never_raising("write the report"), staging_below(self._run.dir):
            self._log({"report": as_panel(path)}, None, _RESULTS)

    @rank_zero_only
    def finish(self, status: str, exit_code: int) -> None:
        """Close the W&B run.

        Args:
            status: The run's end state, kept in the summary as ``status``.
            exit_code: 0 marks the W&B run finished, any other code failed.
        """
        if self._experiment is None:
            return
        with self._never_raising("finish the run"):
            self._experiment.summary["status"] = status
            self._experiment.finish(exit_code=exit_code)
        self._experiment = None

    def _log(self, content: Mapping[str, Any], step: int | None, kind: int) -> None:
        if self._experiment is None:
            return
        if step is None:
            self._experiment.log(dict(content))
        elif (row := _ROWS_A_STEP * step + kind) > self._last_row:
            row = max(row, self._experiment.step)  # where a callback of the user's has logged, the next that is free
            self._experiment.log({**content, "trainer/global_step": step}, step=row, commit=True)

    @rank_zero_only
    def _start(self, mode: Mode, reason: str) -> Run | None:
        if mode == "disabled":
            return None
        if mode == "online" and any(part.is_unsent for part in self._parts):
            mode, reason = "offline", "what was recorded before has not been uploaded"
        try:
            run = self._init(mode)
        except Exception as error:
            reason = first_line(error)
            if mode == "offline":
                log.warning("W&B is switched off for this run: %s", reason)
                return None
            log.warning("W&B could not start this run online: %s", reason)
            self._release_id()
            return self._start("offline", "not reachable")
        self._part = Part(Path(run.settings.sync_dir))
        if run.offline:
            log.info("W&B records offline (%s). To upload: %s", reason, self.sync_command)
        else:
            log.info("W&B run: %s", run.url)
        return run

    def _release_id(self) -> None:
        """Make wandb's service forget the attempt that failed, and with it the run's id, which it still holds."""
        import wandb

        if wandb.run is None:
            wandb.teardown(exit_code=0)
        else:  # a run that the caller has open needs the service
            self._arguments["id"] += "-offline"

    def _init(self, mode: Mode) -> Run:
        import wandb

        self._run.dir.mkdir(parents=True, exist_ok=True)
        run = wandb.init(mode=mode, settings=wandb.Settings(**self._settings), **self._arguments)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        run.summary["status"] = "running"
        save_diff(run, self._run.revision)  # each session: a client that is killed may not have sent its own
        if not self._is_new:
            self._go_on(run)
        return run

    def _go_on(self, run: Run) -> None:
        """Find the last row that W&B has, and write the rows of ``metrics.csv`` that are missing after it."""
        last = last_row(self._parts) if run.offline else {**dict(run.summary), "_step": run.starting_step - 1}
        last_step = int(last.get("trainer/global_step", -1))
        # Records of an older lx have W&B's own row numbers, which are smaller: the step says more.
        self._last_row = max(int(last.get("_step", -1)), _ROWS_A_STEP * last_step)
        self._experiment = run
        for step, row in earlier_rows(self._run):
            self.log_metrics(row, step)
        self._last_row = max(self._last_row, run.step - 1)  # a validation that is repeated is recorded again

    def _never_raising(self, action: str) -> AbstractContextManager[None]:
        return never_raising("W&B", action, self._give_up)

    def _give_up(self) -> str:
        self._experiment = None
        if self._part is not None:
            self._part.mark_incomplete()
        return f"; upload what was kept with: {self.sync_command}"
