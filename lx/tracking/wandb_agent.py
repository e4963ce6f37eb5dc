"""Read the environment variables by which the agent of a W&B sweep describes the run that it starts.

The agent sends SIGTERM to a run that W&B has stopped, and counts every exit code but 0 as a failure.
"""

from __future__ import annotations

import os
import signal

from lx.system.signals import EXIT_CODES


def inside_agent() -> bool:
    """Whether a W&B agent has started this process, or one of its parents."""
    return "WANDB_SWEEP_ID" in os.environ


def agent_run() -> dict[str, str]:
    """Sweep, run id, project and entity of the run that the agent has this process start; empty outside an agent."""
    names = ("SWEEP_ID", "RUN_ID", "PROJECT", "ENTITY")
    if not inside_agent():
        return {}
    return {name.lower(): os.environ[f"WANDB_{name}"] for name in names if f"WANDB_{name}" in os.environ}


def end_of_stopped(exit_code: int) -> tuple[str, int]:
    """Return status and exit code of a run that a signal has stopped: ``pruned`` and 0 if an agent asked for it."""
    if inside_agent() and exit_code == EXIT_CODES[signal.SIGTERM]:
        return "pruned", 0
    return "stopped", exit_code
