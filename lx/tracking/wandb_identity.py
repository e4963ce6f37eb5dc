"""Where a run stands in W&B: its project, user or team, group, kind and name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lx.tracking.context import RunContext
from lx.tracking.wandb_mode import read_settings


def identity(
    run: RunContext, project: str | None, entity: str | None, group: str | None, job_type: str | None
) -> dict[str, str | None]:
    """Return what ``wandb.init`` takes, from the settings of a run, the W&B agent, and the environment."""
    variable = os.environ.get
    agent, configured = run.agent, variable("WANDB_PROJECT") or read_settings().get("project")
    return {
        "project": agent.get("project") or project or configured or "lx",
        "entity": agent.get("entity") or entity,
        "group": group or variable("WANDB_RUN_GROUP") or _experiment(run.overrides),
        "job_type": job_type or variable("WANDB_JOB_TYPE") or "train",
        "name": None if agent else run.name,  # W&B names and numbers the runs of its sweeps
    }


def _experiment(overrides: Sequence[str]) -> str | None:
    """Return the experiment that the command line chooses."""
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("experiment=")]
    return chosen[-1] if chosen and chosen[-1] not in ("", "null") else None
