"""MLflow: a run in a tracking store that all runs share, by default a database in ``runs/``."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lx.errors import LxError
from lx.tracking.context import RunContext, RunResults, never_raising
from lx.tracking.csv import earlier_rows
from lx.tracking.media import figures

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
_FLUSH_S = 5.0
_LONGEST_VALUE = 6000  # of a parameter
_AT_ONCE = 100  # parameters of a request
_SQLITE = "sqlite:///"
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # seconds; with a server
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}


class MlflowTracker(Logger):
    """A run in MLflow, which never fails training.

    A resumed run goes on as the same one, found by its tag ``lx.run_id``; what MLflow has of a metric is not written
    again, and what went down with a killed client comes from ``metrics.csv``.

    Args:
        run: The run's facts.
        tracking_uri: Store; None: MLFLOW_TRACKING_URI, or ``sqlite:///runs/mlflow.db``.
        experiment: Name under which MLflow groups runs.
        log_model: Also keep the best checkpoint there.

    Raises:
        LxError: The package is not installed, or the store is one that MLflow refuses.
    """

    def __init__(self, run: RunContext, *, tracking_uri: str | None, experiment: str, log_model: bool) -> None:
        super().__init__()
        self._uri = check_store(tracking_uri)
        self._run, self._log_model = run, log_model
        self._pending: list[Metric] = []
        self._sent: list[Any] = []  # what MLflow's thread has been given
        self._flushed_at = time.monotonic()
        self._step = run.step
        self._last: dict[str, int] = {}  # step of each metric that earlier sessions have recorded
        self._id = ""
        self._client: MlflowClient | None = None
        with self._never_raising("start"):
            self._start(experiment)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Check the store, as :func:`check_store` does."""
        check_store(settings["tracking_uri"])

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._run.name

    @property
    def version(self) -> str:
        """MLflow's id of the run."""
        return self._id

    @property
    def experiment(self) -> MlflowClient | None:
        """MLflow's client; None without a store."""
        return self._client

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings went into the record at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Note values of a step, and send what is noted every few seconds."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        self._step = self._step if step is None else step
        now = round(time.time() * 1000)
        self._pending += [
            Metric(key, float(value), now, self._step)
            for key, value in metrics.items()
            if self._step > self._last.get(key, -1)
        ]
        if time.monotonic() - self._flushed_at >= _FLUSH_S:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Hand over what is noted to MLflow's own thread."""
        self._send(wait=False)

    @rank_zero_only
    def record_best(self, metrics: Mapping[str, float]) -> None:
        """Write the metrics of the best validation as ``best/...``: MLflow shows the last value of a metric."""
        self.log_metrics({f"best/{key}": value for key, value in metrics.items()})

    @rank_zero_only
    def record_results(self, results: RunResults) -> None:
        """Write the metrics of the test, tables, figures, and the best weights on request."""
        self.log_metrics(
            {key: value for key, value in results.metrics.items() if key.startswith("test/")}, results.step
        )
        with self._never_raising("write the results"):
            if self._client is None:
                return
            paths = {name: f"tables/{name}.json" for name in results.tables}
            for name, table in results.tables.items():
                content = {"columns": table.columns, "data": table.rows}
                self._client.log_text(self._id, json.dumps(content, ensure_ascii=False), paths[name])
            shown = [{"path": path, "type": "table"} for path in paths.values()]
            self._client.set_tag(self._id, "mlflow.loggedArtifacts", json.dumps(shown))
            for name, figure in figures(results):
                self._client.log_figure(self._id, figure, f"figures/{name}.png")
            if self._log_model and results.checkpoint is not None:
                self._client.log_artifact(self._id, str(results.checkpoint), "checkpoints")

    @rank_zero_only
    def finish(self, status: str, exit_code: int) -> None:
        """Close the run: ``FINISHED``, ``FAILED``, or ``KILLED`` for one that was stopped; the tag says which."""
        self._send(wait=True)
        with self._never_raising("finish the run"):
            if self._client is not None:
                self._client.set_tag(self._id, "lx.status", status)
                self._client.set_terminated(self._id, _STATUS.get(status, "KILLED"))
        self._client = None

    def _start(self, experiment: str) -> None:
        for name, most in _PATIENCE.items():
            os.environ.setdefault(name, most)
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with _one_at_a_time(self._uri):
            client = MlflowClient(self._uri)
            known = client.get_experiment_by_name(experiment)
            if known is not None:
                experiment_id = known.experiment_id
            else:
                experiment_id = client.create_experiment(experiment, _artifacts(self._uri))
        runs = client.search_runs([experiment_id], f"tags.`lx.run_id` = '{self._run.id}'", max_results=1)
        if runs:
            self._id = runs[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            histories = {key: client.get_metric_history(self._id, key) for key in runs[0].data.metrics}
            self._last = {key: max(point.step for point in points) for key, points in histories.items()}
        else:
            self._id = self._create(client, experiment_id)
        self._client = client
        for step, row in earlier_rows(self._run):
            self.log_metrics(row, step)

    def _create(self, client: MlflowClient, experiment_id: str) -> str:
        from mlflow.entities import Param

        run = self._run
        tags = {"lx.run_id": run.id, "lx.run_dir": str(run.dir), "lx.overrides": shlex.join(run.overrides)}
        if run.revision is not None:
            tags["mlflow.source.git.commit"] = run.revision.removesuffix("-dirty")
        run_id: str = client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id
        params = [
            Param(re.sub(r"[^\w/.\- :]", "_", key), str(value)[:_LONGEST_VALUE]) for key, value in run.settings.items()
        ]
        for start in range(0, len(params), _AT_ONCE):
            client.log_batch(run_id, params=params[start : start + _AT_ONCE])
        return run_id

    def _send(self, wait: bool) -> None:
        pending, self._pending, self._flushed_at = self._pending, [], time.monotonic()
        with self._never_raising("write metrics"):
            if self._client is not None and pending:
                self._sent.append(self._client.log_batch(self._id, pending, synchronous=False))
            if wait:
                for operations in self._sent:
                    operations.wait()

    def _never_raising(self, action: str) -> AbstractContextManager[None]:
        return never_raising("MLflow", f"{action} at {self._uri}", self._give_up)

    def _give_up(self) -> str:
        self._client = None
        return ""


def check_store(tracking_uri: str | None) -> str:
    """Return the address of the store; raise LxError if MLflow is not installed, or refuses such a store."""
    if find_spec("mlflow") is None:
        raise LxError(
            "logger=mlflow needs the package mlflow, which is not installed. Install it with: pip install 'lx[mlflow]'"
        )
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}runs/mlflow.db"
    if "://" not in uri or uri.startswith("file:"):
        raise LxError(
            f"logger.mlflow.tracking_uri={uri}: MLflow keeps runs in a database or at a server, not in files: "
            f"try {_SQLITE}runs/mlflow.db"
        )
    return uri


def _artifacts(uri: str) -> str | None:
    """Where files lie: beside the database, else where the server says."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).resolve().parent / "mlflow-artifacts").as_uri()


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process at a time make the database: MLflow's tables cannot be made twice."""
    if not uri.startswith(_SQLITE):
        yield
        return
    database = Path(uri.removeprefix(_SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f".{database.name}.lock").open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        sqlite3.connect(database).close()  # raises at once where MLflow would try for minutes
        yield
