"""Bad files, labels and texts get one clear message and exit code 2, and nothing is written."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lx.cli.main import main
from support.bad_input import (
    GOOD,
    SMALL,
    TRAIN,
    Case,
    assert_refused,
    bad_inputs,
    given,
)
from support.corpus import jsonl

# Lightning's own use of torch's trees
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


CASES = [
    # files
    given("no file named", "", "data.train is not set", "data=files data.train="),
    given("missing file", "data.train=nowhere.csv", "data.train", "no file nowhere.csv"),
    given("missing test file", f"{TRAIN} data.test=nowhere.jsonl", "data.test", "nowhere.jsonl"),
    given("unknown extension", "data.train=a.xlsx", "a.xlsx", ".csv", a__xlsx="x"),
    given("missing column", f"{TRAIN} data.text=body", "no column 'body'", "text, pair, label", "data.text"),
    given("misspelt column", f"{TRAIN} data.label=lable", "did you mean 'label'", "text, pair, label"),
    given("label as text", f"{TRAIN} data.text=label", "data.text=label names the column of the label"),
    given("label as pair", f"{TRAIN} data.text_pair=label", "data.text_pair=label names the column of the label"),
    given("missing pair column", f"{TRAIN} data.text_pair=second", "no column 'second'", "data.text_pair"),
    given("csv row too long", "data.train=a.csv", "a.csv:3", "header has 2", a__csv="text,label\na,b\na,b,c\n"),
    given("csv quote never closed", "data.train=a.csv", "a.csv:2", "never closed", a__csv='text,label\n"a,b\nc,d\n'),
    given(
        "malformed json",
        "data.train=a.jsonl",
        "a.jsonl:2",
        "not valid JSON",
        a__jsonl='{"text": "a", "label": 1}\n{"text',
    ),
    given("json array", "data.train=a.json", "a.json:1", "one object a line", a__json='[{"text": "a", "label": 1}]'),
    given(
        "wrong encoding",
        "data.train=a.csv",
        "a.csv:2",
        "not UTF-8",
        "iconv",
        a__csv="text,label\ncaf\xe9,b\n".encode("latin1"),
    ),
    given(
        "truncated gzip",
        "data.train=a.csv.gz",
        "a.csv.gz",
        "cut short",
        a__csv__gz=gzip.compress(b"text,label\n" + b"a,b\n" * 99)[:25],
    ),
    given("not parquet", "data.train=a.parquet", "a.parquet", "not a Parquet file", a__parquet="PAR"),
    given("empty csv", "data.train=a.csv", "a.csv", "empty", a__csv=""),
    given("empty json lines", "data.train=a.jsonl", "a.jsonl", "empty", a__jsonl=""),
    given("header only", "data.train=a.csv", "a.csv", "header and no rows", a__csv="text,label\n"),
    given("empty split", f"{TRAIN} data.test=a.csv", "a.csv", "no rows", a__csv="text,label\n"),
    given("text is no string", "data.train=a.jsonl", "a.jsonl:1", "an integer", a__jsonl='{"text": 1, "label": 1}\n'),
    given("label is a list", "data.train=a.jsonl", "a.jsonl:1", "a list", a__jsonl='{"text": "a", "label": [1]}\n'),
    given("label is empty", "data.train=a.jsonl", "a.jsonl:1", "label", a__jsonl='{"text": "a", "label": null}\n'),
    # classes
    given("one class", "data.train=a.csv", "a.csv", "'x'", "two classes", a__csv="text,label\na,x\nb,x\nc,x\n"),
    given(
        "unseen test label",
        f"{TRAIN} data.test=a.csv",
        "a.csv:3",
        "'spice'",
        "never occurs",
        "food, music, space",
        a__csv="text,label\na,food\nb,spice\n",
    ),
    given(
        "unseen validation label",
        f"{TRAIN} data.validation=a.csv",
        "a.csv:2",
        "'foods'",
        "did you mean 'food'",
        a__csv="text,label\na,foods\n",
    ),
    given(
        "label not in names", f"{TRAIN} data.class_names=[food,music]", "good.jsonl:3", "'space'", "data.class_names"
    ),
    given("class named twice", f"{TRAIN} data.class_names=[food,food]", "data.class_names", "twice"),
    # empty texts
    given(
        "empty text refused",
        "data.train=a.jsonl data.on_empty=error",
        "a.jsonl:2",
        "empty",
        "2 row(s)",
        "data.on_empty=drop",
        a__jsonl=jsonl([GOOD[0], {**GOOD[1], "text": " "}, {**GOOD[2], "text": None}, *GOOD[3:]]),
    ),
    given("only empty texts", "data.train=a.csv", "a.csv", "all 2 texts are empty", a__csv="text,label\n ,x\n ,y\n"),
    given("too few rows to cut", "data.train=a.csv", "a.csv", "data.validation", a__csv="text,label\na,x\nb,y\n"),
]


@bad_inputs(CASES)
def test_bad_input_gets_one_clear_message(case: Case, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(case, here, capfd)


def test_dropped_texts_are_counted(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "gaps.jsonl").write_text(jsonl([*GOOD, {**GOOD[0], "text": " "}, {**GOOD[1], "text": None}]))
    assert main(["check", *SMALL, "data=files", "data.train=gaps.jsonl"]) == 0
    assert "gaps.jsonl: 2 rows with an empty text were dropped" in capfd.readouterr().out
