"""A run directory from a stranger is refused in seconds and in bounded memory, whatever is in it."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import shutil
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lx.cli.main import main
from lx.errors import LxError
from lx.inference.load import load_run
from lx.system.output import escape
from support.unbounded import UNBOUNDED, UNBOUNDED_TO_EVAL

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_directory_without_bounds_is_refused(name: str, run: Path) -> None:
    spoil, says = UNBOUNDED[name]
    spoil(run)
    with pytest.raises(LxError) as error:
        load_run(run)
    assert says in escape(str(error.value))
    assert len(str(error.value).replace(str(run), "run")) < 1000
    assert "--trust" not in str(error.value) or name == "a target of 100,000 letters"


SECONDS, MEGABYTES = 5, 500


def _measure(command: list[str], log: Path, connection: Connection) -> None:
    """Run a command in this process; send its exit code, seconds of CPU, and the most memory that it took, in MB."""
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        started = time.process_time()
        code = main(command)
        seconds = time.process_time() - started
    connection.send((code, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(command: list[str], log: Path) -> tuple[int, float, float]:
    """Run a command in a process of its own, which has imported everything."""
    context = multiprocessing.get_context("forkserver")
    heavy = ["lx.inference.evaluate", "lx.inference.classifier", "transformers.models.bert.modeling_bert"]
    context.set_forkserver_preload(["lx.cli.main", *heavy])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(command, log, sender))
    process.start()
    assert receiver.poll(60), f"{command} hangs"
    measured: tuple[int, float, float] = receiver.recv()
    process.join()
    return measured


@pytest.mark.slow
@pytest.mark.parametrize("name", [*UNBOUNDED, *UNBOUNDED_TO_EVAL])
def test_the_time_and_memory_of_a_refusal(name: str, run: Path, tmp_path: Path) -> None:
    spoil, says = (UNBOUNDED | UNBOUNDED_TO_EVAL)[name]
    spoil(run)
    command = ["predict", str(run), "--text", "bread"] if name in UNBOUNDED else ["eval", str(run), "hardware=cpu"]
    code, seconds, megabytes = measure(command, tmp_path / "log.txt")
    message = (tmp_path / "log.txt").read_text()
    print(f"{seconds:.2f} s, {megabytes:.0f} MB: {name}")
    assert code == 2, message
    assert says in message
    assert "Traceback" not in message and len(message.replace(str(run), "run")) < 1000
    assert seconds < SECONDS and megabytes < MEGABYTES
