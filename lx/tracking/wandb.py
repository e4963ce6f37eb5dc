"""Weights & Biases: a run's config, metrics, results and end state.

W&B is a record, not a part of training: when it fails, one warning says so and training goes on.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lx.config.flatten import flatten
from lx.system.private_api import ignoring_experiment
from lx.tasks.base import ResultTable
from lx.tracking.context import RunContext
from lx.tracking.wandb_mode import Mode, choose_mode, read_settings

if TYPE_CHECKING:
    from wandb import Run, Table
    from wandb.plot.custom_chart import CustomChart

log = logging.getLogger(__name__)


class WandbTracker(WandbLogger):
    """Lightning's W&B logger with a run of its own, started at once, that never fails training.

    ``RUN/wandb`` holds its files. Where W&B cannot be reached at the start the run is recorded offline. Inside a W&B
    agent it is the agent's run, and the agent's project and entity win.

    Args:
        run: The run's facts; name, config, overrides and revision go into the record.
        project: W&B project; None: WANDB_PROJECT, wandb's settings file, or ``lx``.
        entity: W&B user or team; None: WANDB_ENTITY or the account's default.
        group: Name under which W&B groups runs.
        job_type: What kind of run it is, within its group.
        tags: Labels to filter by.
        notes: Free text.
        mode: ``auto``, ``online``, ``offline`` or ``disabled``; see
            :func:`lx.tracking.wandb_mode.choose_mode`.
        init_timeout: Seconds to wait for W&B at the start.
        finish_timeout: Seconds to wait for the upload at the end; what is left can be synced later.

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
    ) -> None:
        project = (
            run.agent.get("project")
            or project
            or os.environ.get("WANDB_PROJECT")
            or read_settings().get("project")
            or "lx"
        )
        super().__init__(name=run.name, save_dir=run.dir, project=project)
        self._run_dir = run.dir
        self._settings: dict[str, Any] = {
            "silent": True,
            "console": "off",  # RUN/log.txt has it; capturing it would fight the progress bar
            "init_timeout": init_timeout,
            "finish_timeout": finish_timeout,
            "finish_timeout_raises": True,
            "stop_fn": _stop_this_process,
        }
        self._arguments: dict[str, Any] = {
            "project": project,
            "entity": run.agent.get("entity") or entity,
            "group": group,
            "job_type": job_type,
            "tags": list(tags) or None,
            "notes": notes,
            "name": None if run.agent else run.name,  # W&B names and numbers the runs of its sweeps
            "id": run.id,
            "resume": "allow",
            "dir": str(run.dir),
            "config": {**flatten(run.config), "overrides": run.overrides, "revision": run.revision},
            "reinit": "create_new",  # a run that the caller has open is not ours to write to or to finish
        }
        self._sync_dir: Path | None = None
        self._experiment: Run | None = self._start(*choose_mode(mode))

    @property
    def experiment(self) -> Any:
        """The ``wandb.Run``; a stand-in that ignores every call on other ranks or without W&B."""
        return self._experiment if self._experiment is not None else ignoring_experiment()

    @property
    def sync_command(self) -> str | None:
        """The command that uploads this run later; None if it is online or not recorded.

        A run that was resumed offline has a directory for each time, and W&B needs them all, in their order.
        """
        if self._sync_dir is None:
            return None
        parts = {part for part in self._sync_dir.parent.glob("offline-run-*") if not [*part.glob("*.synced")]}
        ordered = sorted(
            parts | {self._sync_dir}, key=lambda part: part.name.partition("run-")[2]
        )  # begins with the time
        return shlex.join(["wandb", "sync", *(_shown(part) for part in ordered)])

    def log_hyperparams(self, params: Any) -> None:
        """Do nothing: the resolved config went into the record at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write values against ``trainer/global_step``."""
        with self._never_raising("write metrics"):
            super().log_metrics(metrics, step)

    @rank_zero_only
    def record_evaluation(self, metrics: Mapping[str, float], tables: Mapping[str, ResultTable]) -> None:
        """Write the metrics of the best weights to the summary, and the task's tables as tables or charts."""
        if self._experiment is None:
            return
        with self._never_raising("write the results"), _staging_below(self._run_dir):
            self._experiment.summary.update(dict(metrics))
            if tables:
                self._experiment.log({f"test/{name}": _wandb_table(table) for name, table in tables.items()})

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

    @rank_zero_only
    def _start(self, mode: Mode, reason: str) -> Run | None:
        if mode == "disabled":
            return None
        try:
            run = self._init(mode)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            if mode == "offline":
                log.warning("W&B is switched off for this run: %s", reason)
                return None
            log.warning("W&B could not start this run online: %s", reason)
            self._arguments["id"] += "-offline"  # wandb's service still holds the id for the attempt that failed
            return self._start("offline", "not reachable")
        if run.offline:
            self._sync_dir = Path(run.settings.sync_dir)
            log.info("W&B records offline (%s). To upload: %s", reason, self.sync_command)
        else:
            log.info("W&B run: %s", run.url)
        return run

    def _init(self, mode: Mode) -> Run:
        import wandb

        self._run_dir.mkdir(parents=True, exist_ok=True)
        run = wandb.init(mode=mode, settings=wandb.Settings(**self._settings), **self._arguments)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run

    @contextmanager
    def _never_raising(self, action: str) -> Iterator[None]:
        """Give W&B up, with one warning, on whatever goes wrong inside: network, service, disk."""
        try:
            yield
        except Exception as error:
            if self._experiment is not None and self._sync_dir is None:
                self._sync_dir = Path(self._experiment.settings.sync_dir)
            self._experiment = None
            log.warning(
                "W&B could not %s: %s. Training goes on; upload what was kept with: %s",
                action,
                str(error) or type(error).__name__,
                self.sync_command,
            )


def start_service(mode: str) -> None:
    """Start wandb's service process, which takes some tenths of a second of waiting; the run reports what is wrong."""
    with suppress(Exception):
        if choose_mode(mode)[0] != "disabled":
            import wandb

            wandb.setup()


def _stop_this_process() -> None:
    """Stop the run as a signal does, after a checkpoint: W&B calls this when a person has stopped it there."""
    os.kill(os.getpid(), signal.SIGTERM)


def _wandb_table(table: ResultTable) -> Table | CustomChart:
    """Convert a table; to W&B's chart, if it names one."""
    import wandb

    content = wandb.Table(columns=[*table.columns], data=table.rows)
    if table.chart is None:
        return content
    return wandb.plot_table(
        vega_spec_name=table.chart,
        data_table=content,
        fields={column: column for column in table.columns},
        string_fields={"title": table.title},
    )


@contextmanager
def _staging_below(run_dir: Path) -> Iterator[None]:
    """Let wandb stage tables in the run directory, so that it can be moved and synced elsewhere."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = str((run_dir / "wandb").resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]
        else:
            os.environ["WANDB_DATA_DIR"] = before


def _shown(path: Path) -> str:
    """The path as a person in the working directory would write it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
