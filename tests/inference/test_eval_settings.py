"""What lx eval ignores, or cannot change, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lx.errors import LxError
from lx.inference.evaluate import evaluate
from lx.inference.load import LoadedRun, load_run


@pytest.fixture(scope="module")
def loaded(trained_run: Path) -> LoadedRun:
    return load_run(trained_run)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.max_length=8", "data.max_length is what the run was trained with"),
        ("data.batch_size=7", "data.batch_size has no effect"),
        ("data.split_seed=7", "data.split_seed has no effect"),
        ("data.on_empty=error", "data.on_empty has no effect"),
        ("data.train=train.csv", "data.train has no effect"),
        ("data.validation=v.csv", "data.validation has no effect"),
        ("hardware.micro_batch=3", "hardware.micro_batch has no effect"),
        ("hardware.compile=true", "hardware.compile has no effect"),
        ("hardware=slurm", "not in a job of Slurm"),
        ("model.dim=8", "lx eval takes data and hardware settings"),
        ("~data.test", "lx eval takes data and hardware settings"),
        ("data.label=topic", "there is no test split"),
        ("data.test=", "data.test is empty"),
        ("data.test=nowhere (1).csv", "data.test: there is no file nowhere (1).csv"),
        ("data.test=a.csv,b.csv", "if this is one value: 'data.test=\"a.csv,b.csv\"'"),
    ],
)
def test_a_setting_without_effect_is_refused(override: str, says: str, loaded: LoadedRun) -> None:
    with pytest.raises(LxError) as error:
        evaluate(loaded, [override])
    assert says in str(error.value)
