"""How a run ended, as ``result.json`` records it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lx.errors import LxError


@dataclass
class Result:
    """How a run ended; the content of ``result.json``."""

    status: str  # finished, failed, stopped; pruned, by its sweep or by W&B; paused, by its sweep
    run_dir: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    objective: float | None = None
    best_checkpoint: str | None = None
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0  # of all sessions, without work that an interruption has lost
    parameters: int | None = None
    latency: float | None = None  # milliseconds of a prediction of one text, if it was asked for
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What the task adds, by the key in the file: ``per_class`` and ``confusion_matrix`` of a classification."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        fields = asdict(self)
        details = fields.pop("details")
        return {**fields, **details}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Result:
        """Rebuild a result from the content of the file; raise LxError if it is none."""
        if not isinstance(content, dict) or not isinstance(content.get("status"), str):
            raise LxError("result.json does not say the status of a run")
        own = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        return cls(**own, details={name: value for name, value in content.items() if name not in own})
