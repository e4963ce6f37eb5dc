"""What ``wandb.init`` takes: where a run stands in W&B, and how the client behaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from lx.errors import LxError
from lx.tracking.context import RunContext
from lx.tracking.wandb_mode import read_settings


def identity(
    run: RunContext, project: str | None, entity: str | None, group: str | None, job_type: str | None
) -> dict[str, str | None]:
    """Return project, user or team, group, kind and name: by the run's settings, the W&B agent, and the environment."""
    variable = os.environ.get
    agent, configured = run.agent, variable("WANDB_PROJECT") or read_settings().get("project")
    return {
        "project": agent.get("project") or project or configured or "lx",
        "entity": agent.get("entity") or entity,
        "group": group or variable("WANDB_RUN_GROUP") or _experiment(run.overrides),
        "job_type": job_type or variable("WANDB_JOB_TYPE") or "train",
        "name": None if agent else run.name,  # W&B names and numbers the runs of its sweeps
    }


def check_names(settings: Mapping[str, Any]) -> None:
    """Refuse a project or tags that W&B's client does not take: it would record nothing.

    Raises:
        LxError: says what W&B says.
    """
    for name, field in (("project", "project"), ("tags", "run_tags")):
        if value := settings.get(name):
            import wandb

            try:
                wandb.Settings(**{field: value})
            except (wandb.Error, ValueError) as error:  # pydantic indents its reason
                reason = next((line for line in str(error).splitlines() if line.startswith("  ")), str(error))
                raise LxError(f"logger.wandb.{name}: {reason.strip().partition(' [type=')[0]}") from error


def _experiment(overrides: Sequence[str]) -> str | None:
    """Return the experiment that the command line chooses."""
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("experiment=")]
    return chosen[-1] if chosen and chosen[-1] not in ("", "null") else None


def client_settings(init_timeout: float, finish_timeout: float) -> dict[str, Any]:
    """Return the client's settings; timeouts are in seconds."""
    return {
        "silent": True,
        "console": "off",  # RUN/log.txt has it; capturing it would fight the progress bar
        "init_timeout": init_timeout,
        "finish_timeout": finish_timeout,
        "finish_timeout_raises": True,
        "x_transaction_log_flush_interval": 1.0,  # seconds of rows that a kill can cost, instead of 15
        "stop_fn": _stop_this_process,
    }


def _stop_this_process() -> None:
    """Stop the run as a signal does, after a checkpoint: W&B calls this when a person has stopped it there."""
    os.kill(os.getpid(), signal.SIGTERM)
