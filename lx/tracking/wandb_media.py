"""What a run records in W&B's own types: tables, charts and files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lx.system.git import diff
from lx.tasks.base import ResultTable

if TYPE_CHECKING:
    from wandb import Run, Table
    from wandb.plot.custom_chart import CustomChart


def as_wandb(table: ResultTable) -> Table | CustomChart:
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


def save_diff(run: Run, revision: str | None) -> None:
    """Keep how tracked files differ from the revision as ``diff.patch``, unless W&B is told to leave git alone."""
    if (revision or "").endswith("-dirty") and not run.settings.disable_git and (patch := diff()):
        path = Path(run.settings.files_dir) / "diff.patch"
        path.write_bytes(patch)
        run.save(path, base_path=path.parent, policy="now")


@contextmanager
def staging_below(run_dir: Path) -> Iterator[None]:
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
