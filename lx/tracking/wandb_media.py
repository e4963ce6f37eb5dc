"""What a run records in W&B's own types: tables, charts and files."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from lx.run.directory import RunDirectory
from lx.system.git import diff
from lx.system.processes import variable
from lx.tasks.base import ResultTable
from lx.tracking.context import RunContext, RunResults

if TYPE_CHECKING:
    from wandb import Artifact, Html, Run, Table
    from wandb.plot.custom_chart import CustomChart


# Of each chart W&B's name, and the fields that the first columns of its table fill.
_CHARTS = {
    "confusion_matrix": ("wandb/confusion_matrix/v1", ("Actual", "Predicted", "nPredictions")),
    "lines": ("wandb/lineseries/v0", ("step", "lineVal", "lineKey")),
}


def as_wandb(table: ResultTable) -> Table | CustomChart:
    """Convert a table; to a chart of W&B's, if one draws it."""
    import wandb

    content = wandb.Table(columns=[*table.columns], data=table.rows)
    if table.chart is None:
        return content
    name, fields = _CHARTS[table.chart]
    return wandb.plot_table(
        vega_spec_name=name,
        data_table=content,
        fields=dict(zip(fields, table.columns, strict=False)),
        string_fields={"title": table.title},
    )


def as_panel(page: Path) -> Html:
    """Convert an HTML file, which stays as it is."""
    import wandb

    return wandb.Html(page, inject=False)


def model_artifact(run: RunContext, results: RunResults) -> Artifact:
    """Return the files that ``lx predict`` and ``lx eval`` need, in their places: downloaded it is a run directory."""
    import wandb

    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(results.metrics))
    files = RunDirectory(run.dir)
    settings = (files.config, files.environment, files.model, files.labels, files.tokenizer, files.linear)
    for path in (*settings, files.best):
        if path.exists():
            artifact.add_file(str(path), name=str(path.relative_to(run.dir)))
    return artifact


def save_diff(run: Run, revision: str | None) -> None:
    """Keep how tracked files differ from the revision as ``diff.patch``, unless W&B's settings disable git."""
    if (revision or "").endswith("-dirty") and not run.settings.disable_git and (patch := diff()):
        path = Path(run.settings.files_dir) / "diff.patch"
        path.write_bytes(patch)
        run.save(path, base_path=path.parent, policy="now")


def staging_below(run_dir: Path) -> AbstractContextManager[None]:
    """Let wandb stage tables in the run directory, so that it can be moved and synced elsewhere."""
    return variable("WANDB_DATA_DIR", str((run_dir / "wandb").resolve()))
