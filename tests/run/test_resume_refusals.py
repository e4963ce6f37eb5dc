"""A run from a stranger, or one that another process trains, is not gone on with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lx.cli.main import main
from lx.errors import LxError
from lx.run.checkpoint import write_checkpoint
from lx.run.directory import RunDirectory
from lx.run.lock import in_use, locked, require_idle
from lx.training.train import train_in
from support.hostile import Payload

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]


NODES = ["optimizer", "scheduler", "tokenizer", "data.source", "model.pooling", "task", "logger.x", "callbacks.x"]


@pytest.mark.parametrize("node", [*NODES, "hardware.submit", "seed"])
def test_a_run_from_a_stranger_is_refused(
    untrained: RunDirectory, node: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.create(untrained.read_config())
    touch = {"_target_": "os.system", "_args_": [f"touch {tmp_path / 'touched'}"]}
    OmegaConf.update(config, node, touch, merge=False, force_add=True)
    untrained.write_config(OmegaConf.to_container(config))  # type: ignore[arg-type]
    files = sorted(untrained.path.rglob("*"))
    assert main(["resume", str(untrained.path), "--trust", "oss"]) == 2
    assert "asks to build 'os.system', which is none of lx's own, and was refused" in capfd.readouterr().err
    assert not (tmp_path / "touched").exists()
    assert sorted(untrained.path.rglob("*")) == files


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda touched: {"global_step": 4, "x": Payload(touched)}, "could run code of its own"),
        (lambda touched: {"state_dict": {}}, "no training state"),
        (lambda touched: {"global_step": "4"}, "no training state"),
    ],
    ids=["code", "no step", "text"],
)
def test_a_state_from_a_stranger_is_refused(
    untrained: RunDirectory, tmp_path: Path, content: Callable[[Path], dict[str, Any]], says: str
) -> None:
    write_checkpoint(untrained.last, content(tmp_path / "touched"))
    with pytest.raises(LxError, match=says):
        train_in(untrained)
    assert not (tmp_path / "touched").exists()


HOLDS = (
    "import sys, time; from pathlib import Path\n"
    "from lx.run.directory import RunDirectory; from lx.run.lock import locked\n"
    "with locked(RunDirectory(Path(sys.argv[1]))): print('in', flush=True); "
)


@pytest.mark.slow
def test_one_process_at_a_time(untrained: RunDirectory) -> None:
    command = [sys.executable, "-c", HOLDS + "sys.stdin.read()", str(untrained.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        with pytest.raises(LxError, match="is being trained by another process"), locked(untrained):
            pass
        other.kill()
    with locked(untrained):
        pass


@pytest.mark.slow
def test_a_process_that_is_about_to_end_is_waited_for(untrained: RunDirectory) -> None:
    command = [sys.executable, "-c", HOLDS + "time.sleep(1)", str(untrained.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        assert in_use(untrained)
        require_idle(untrained)
        with locked(untrained):
            pass
