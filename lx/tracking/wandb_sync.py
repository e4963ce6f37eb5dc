"""Upload what runs have recorded offline, by the real ``wandb sync``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPException
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.request import urlopen

from lx.errors import UploadError
from lx.system.output import say
from lx.tracking.wandb_mode import base_url, has_credentials
from lx.tracking.wandb_parts import Part

_RUNS_AT_A_TIME = 8
_REACH_TIMEOUT_S = 10.0


def upload(records: Sequence[Sequence[Part]]) -> int:
    """Upload the parts of each record in their order; W&B's client marks what has arrived.

    Return the number of records that were uploaded: one is not if its client was killed before it had written anything.

    Args:
        records: Parts of a record each, none of them being written.

    Raises:
        UploadError: There are no credentials, W&B cannot be reached, or it has not taken every part.
    """
    _require_server()
    records = [ready for record in records if (ready := [part for part in record if part.make_ready()])]
    for start in range(0, len(records), _RUNS_AT_A_TIME):
        _sync([part for record in records[start : start + _RUNS_AT_A_TIME] for part in record])
    if left := [part for record in records for part in record if part.is_unsent]:
        raise UploadError(
            f"{len(left)} of {sum(map(len, records))} parts were not uploaded, the first of them {left[0].path}: see "
            "W&B's messages above; the same command goes on with them"
        )
    return len(records)


def _require_server() -> None:
    if not has_credentials():
        raise UploadError("not logged in at W&B: run `wandb login`, or set WANDB_API_KEY")
    url = base_url()
    try:
        urlopen(url, timeout=_REACH_TIMEOUT_S).close()
    except HTTPError:
        pass  # it is there
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UploadError(f"W&B cannot be reached at {url}: {reason}; nothing was uploaded") from error


def _sync(parts: Sequence[Part]) -> None:
    """Run ``wandb sync``, which takes the parts of a run one after the other, by their time.

    A run that is left half uploaded could not be continued without repeated rows, so an interrupt waits for its end; a
    second one does not.
    """
    command = [sys.executable, "-P", "-m", "wandb", "sync", "--include-online", "-n", str(_RUNS_AT_A_TIME)]
    command += [str(part.path) for part in parts]
    with TemporaryDirectory(prefix="lx-sync-") as logs:
        environment = {**os.environ, "WANDB_DIR": logs, "WANDB_MODE": "online"}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait()
        except KeyboardInterrupt:
            say("finishing the runs under way; to stop at once: Ctrl-C again", sys.stderr)
            try:
                process.wait()
            finally:
                process.kill()
            raise
