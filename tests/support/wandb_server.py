"""The part of W&B's HTTP and GraphQL protocol that its real client and its real sweep agent use, on loopback.

Operations and fields are those that wandb 0.31 asks for; an operation that is not here is answered with an error, which
the client takes for a server without that feature.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ENTITY, _SWEEP = "shelf", "sweep001"


@dataclass
class WandbRun:
    """What the server holds of a run.

    Attributes:
        name: its id.
        project: of the run.
        fields: what the client set last, by the protocol's names: ``groupName``, ``jobType``, ``sweep``, ...
        config: of the run, without the client's own part.
        summaries: every summary that arrived, the last one last.
        history: the logged rows.
        events: the rows of system metrics.
        files: names of the files that were uploaded.
        artifacts: the aliases of each, by its type and its collection.
        exit_codes: one for each time that a client ended the run.
        stop: how a person stopped it: ``agent``, ``client`` or not at all.
    """

    name: str
    project: str
    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    artifacts: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    stop: str | None = None

    @property
    def summary(self) -> dict[str, Any]:
        """The last summary."""
        return self.summaries[-1] if self.summaries else {}


class WandbServer:
    """A W&B server with one project, and one sweep whose trials are given.

    Args:
        trials: parameters of the trials that an agent is told to run, one after the other.
        stop_by: whom to ask to stop a run of which ``should_stop`` is true: its ``agent``, or its ``client``.
        should_stop: whether a run is to be stopped; asked when something of it arrives.
    """

    def __init__(
        self,
        trials: Sequence[Mapping[str, Any]] = (),
        stop_by: str = "agent",
        should_stop: Callable[[WandbRun], bool] = lambda run: False,
    ) -> None:
        self.runs: dict[str, WandbRun] = {}
        self.operations: list[str] = []
        self._trials = {f"trial{number:04}": dict(trial) for number, trial in enumerate(trials)}
        self._waiting = list(self._trials)
        self._stop_by = stop_by
        self._should_stop = should_stop
        self._sweep_config = ""
        self._lock = threading.Lock()

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        """Serve while the block runs; gives the environment variables of a client."""
        server = _QuietServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield {
                "WANDB_BASE_URL": self.url,
                "WANDB_API_KEY": "k" * 40,
                "WANDB_MODE": "online",
                "WANDB_ERROR_REPORTING": "false",
                "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",  # seconds, instead of 15
            }
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, path: str, content: bytes) -> Any:
        """The answer to a request."""
        with self._lock:
            if path == "/graphql":
                request = json.loads(content)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
                self.operations.append(operation)
                method = getattr(self, f"_{operation}", None)
                if method is None:
                    return {"data": None, "errors": [{"message": f"no operation {operation}"}]}
                return {"data": method(**(request.get("variables") or {}))}
            if path.endswith("/file_stream"):
                return self._file_stream(path.split("/")[-2], json.loads(content))
            return {}

    def _Viewer(self) -> Any:  # noqa: N802  (the operation's name)
        viewer = {"id": "viewer", "entity": _ENTITY, "username": _ENTITY, "email": "a@example.org", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _UpsertSweep(self, config: str, projectName: str | None, **others: Any) -> Any:  # noqa: N802, N803
        self._sweep_config = config
        project = {"id": "project", "name": projectName, "entity": {"id": "entity", "name": _ENTITY}}
        return {
            "upsertSweep": {
                "sweep": {"id": "sweep", "name": _SWEEP, "project": project},
                "configValidationWarnings": [],
            }
        }

    def _SweepWithRuns(self, **others: Any) -> Any:  # noqa: N802
        sweep = {"id": "sweep", "name": _SWEEP, "state": "RUNNING", "config": self._sweep_config}
        return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}

    def _CreateAgent(self, **others: Any) -> Any:  # noqa: N802
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _Heartbeat(self, runState: str, **others: Any) -> Any:  # noqa: N802, N803
        running = json.loads(runState)
        commands: list[dict[str, Any]] = [
            {"type": "stop", "run_id": name}
            for name in running
            if name in self.runs and self.runs[name].stop == "agent"
        ]
        if not running:
            commands = [{"type": "exit"}]
            if self._waiting:
                name = self._waiting.pop(0)
                args = {key: {"value": value} for key, value in self._trials[name].items()}
                commands = [{"type": "run", "run_id": name, "program": "lx", "args": args}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _RunResumeStatus(self, project: str, name: str, **others: Any) -> Any:  # noqa: N802
        run, bucket = self.runs.get(name), None
        if run is not None:
            config = {key: {"value": value} for key, value in run.config.items()}
            bucket = {
                "id": name,
                "name": name,
                "displayName": run.fields.get("displayName"),
                "summaryMetrics": json.dumps(run.summary),
                "config": json.dumps(config),
                "historyLineCount": len(run.history),
                "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
                "eventsLineCount": 0,
                "eventsTail": "[]",
                "logLineCount": 0,
                "tags": run.fields.get("tags") or [],
                "notes": None,
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": {"id": "project", "name": project, "entity": _entity(), "bucket": bucket}}

    def _UpsertBucket(self, name: str | None, project: str | None, config: str | None, **others: Any) -> Any:  # noqa: N802
        name = name or others["id"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, WandbRun(name, project or ""))
        run.fields.update({key: value for key, value in others.items() if value is not None})
        for key, entry in json.loads(config or "{}").items():
            if key != "_wandb":
                run.config[key] = entry["value"]
        bucket = {
            "id": name,
            "name": name,
            "displayName": run.fields.get("displayName") or name,
            "config": config,
            "sweepName": run.fields.get("sweep"),
            "project": {"id": "project", "name": run.project, "entity": _entity()},
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, files: Sequence[str], run: str, **others: Any) -> Any:  # noqa: N802
        self.runs[run].files += files
        uploads = [{"name": name, "uploadUrl": f"{self.url}/storage/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": uploads}}

    def _ServerFeaturesQuery(self) -> Any:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _ArtifactType(self, **others: Any) -> Any:  # noqa: N802
        return {"project": None}

    def _CreateArtifact(self, input: Mapping[str, Any]) -> Any:  # noqa: N802
        name = (input["artifactTypeName"], input["artifactCollectionName"])
        self.runs[input["runName"]].artifacts[name] = [alias["alias"] for alias in input["aliases"] or []]
        sequence = {"id": "sequence", "latestArtifact": None}
        artifact = {"id": "artifact", "state": "COMMITTED", "artifactSequence": sequence}  # there: nothing to upload
        return {"createArtifact": {"artifact": artifact}}

    def _file_stream(self, name: str, content: Mapping[str, Any]) -> Any:
        run = self.runs[name]
        for file, part in (content.get("files") or {}).items():
            rows = [json.loads(line) for line in part["content"]] if file.endswith((".jsonl", ".json")) else []
            if file == "wandb-history.jsonl":
                del run.history[part["offset"] :]
                run.history += rows
            elif file == "wandb-events.jsonl":
                run.events += rows
            elif file == "wandb-summary.json":
                run.summaries += rows
        if content.get("complete"):
            run.exit_codes.append(int(content["exitcode"]))
        if run.stop is None and self._should_stop(run):
            run.stop = self._stop_by
        return {"stopped": run.stop == "client"}


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: a client that ends resets its connections."""


def _entity() -> dict[str, str]:
    return {"id": "entity", "name": _ENTITY}


def _handler(wandb: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

        def _respond(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            body = json.dumps(wandb.answer(self.path, content)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _respond  # noqa: N815

    return Handler
