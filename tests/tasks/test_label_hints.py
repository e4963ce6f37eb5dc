"""Class names that tell of a forgotten setting are remarked on; usual names are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lx.cli.main import main
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder
from lx.tasks.label_hints import are_amounts, class_warnings, label_warnings


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a|b", "a|c", "b"], "task=multilabel 'data.label_separator=|'"),
        (["x; y", "y;z"], "task=multilabel 'data.label_separator=;'"),
        (["Sport", "news", "sport"], "'Sport' and 'sport'"),
        (["财经,体育", "体育,科技"], "'data.label_separator=,'"),
        ([str(n / 7) for n in range(30)], "all 30 classes are numbers: if they are amounts, add task=regression"),
        ([str(7 * n) for n in range(21)], "add task=regression"),
        ([str(n) for n in range(1, 151)], ""),
        (["1", "2", "3.5"], ""),
        (["nan"] + [str(n / 3) for n in range(30)], ""),
        (["food, drink", "home, garden"], ""),
        (["sport|football", "sport|tennis", "sport"], ""),
        (["财经", "体育"], ""),
    ],
)
def test_classes(names: list[str], says: str) -> None:
    sentences = class_warnings(names)
    assert (len(sentences) == 1 and says in sentences[0]) if says else not sentences


def test_labels_joined_by_another_separator() -> None:
    names = ["a|b", "b|c", "c"]
    (sentence,) = label_warnings(names, 1)
    assert "no text has more than one label" in sentence and "'data.label_separator=|' meant?" in sentence
    assert label_warnings(names, 2) == [] == label_warnings(["a", "b"], 1)


def test_numbers_of_which_hardly_any_repeats_are_refused() -> None:
    numbers, rows = [f"{n}.5" for n in range(40)], 44
    assert are_amounts(numbers)
    encoder = ClassEncoder(None)
    labels, _ = encoder.encode([numbers[row % 40] for row in range(rows)], learn=True)
    with pytest.raises(LxError, match=r"40 classes for 44 rows, all of them numbers: .*task=regression"):
        encoder.check_train(labels, "a.csv")
    counted = ClassEncoder(None)
    counted.check_train(counted.encode([str(n) for n in range(40)], learn=True)[0], "a.csv")


def test_the_check_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    rows = [f"text {n},{('a|b', 'b|c', 'c|a')[n % 3]}" for n in range(60)]
    Path("a.csv").write_text("\n".join(["text,label", *rows]))
    small = ["recipe=plain", "model=bag", "hardware=cpu", "logger=none", "data.batch_size=8", "tokenizer=word"]
    separated = ["task=multilabel", "data.label_separator=;"]
    assert main(["check", "data.train=a.csv", "data.test=a.csv", *separated, *small]) == 0
    assert capfd.readouterr().out.count("'data.label_separator=|' meant?") == 1
