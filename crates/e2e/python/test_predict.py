"""What `predict` writes as CSV, JSON lines and Parquet opens in pandas, and says the same."""

import functools
import subprocess

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import BINARIES, ROOT

BRANCHES = ["global", "local", "fusion"]
EDGES = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"]


def missing(value):
    return value is None or (isinstance(value, float) and np.isnan(value))


def equal(got, cell):
    """Whether a value of JSON is a cell of the table: null, or the same text, bool, or float32."""
    if missing(cell) or missing(got):
        return missing(cell) and missing(got)
    return np.float32(got) == cell if isinstance(cell, (float, np.floating)) else got == cell


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    """The three files, of the phantom's images, one that is refused, and one with a hostile name."""
    folder = tmp_path_factory.mktemp("predict")
    images = sorted((runs.artifacts / "smoke/phantom").resolve().rglob("*.png"))[:12]
    odd = folder / 'a "quoted",\nbroken ü name.png'
    odd.write_bytes(images[0].read_bytes())
    files = [*images, odd, ROOT / "crates/picture/tests/dicom/8bit.png"]
    for ending, form in [("csv", "csv"), ("jsonl", "json"), ("parquet", "parquet")]:
        command = [BINARIES / "predict", "--artifacts-dir", runs.artifacts, "--run", "smoke", "--abstain", "0.3"]
        command += ["--format", form, "--out", folder / f"answers.{ending}", *files]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout == "", done.stderr
    return folder, [str(file) for file in files]


def test_they_agree(written):
    folder, files = written
    table = pd.read_parquet(folder / "answers.parquet")
    assert table["image"].tolist() == files
    assert table["refused"].iloc[-1] == "too_small" and table["prob_fusion_mass"].isna().iloc[-1]

    # CSV has 0 and 1 for a call, and nothing for null; its numbers are the same float32.
    types = {name: table[name].dtype for name in table if table[name].dtype == np.float32}
    csv = pd.read_csv(folder / "answers.csv", dtype=types)
    assert list(csv.columns) == list(table.columns)
    for name in table:
        theirs = csv[name]
        if name.startswith("call_"):
            theirs = theirs.map({0: False, 1: True})
        ours, theirs = (column.astype(object).where(column.notna(), None).tolist() for column in [table[name], theirs])
        assert ours == theirs, name

    # JSON lines are nested: objects by branch and finding. Of a refused image they are null.
    lines = pd.read_json(folder / "answers.jsonl", lines=True, dtype=False)
    assert len(lines) == len(table)
    findings = [name.removeprefix("call_") for name in table if name.startswith("call_")]
    assert len(findings) == 15
    for (_, line), (_, row) in zip(lines.iterrows(), table.iterrows()):
        same = lambda got, name: equal(got, row[name])
        refused = {} if missing(line["refused"]) else line["refused"]
        assert same(line["image"], "image") and same(refused.get("reason"), "refused") and same(refused.get("why"), "why")
        assert same(line["novelty"], "novelty")
        assert all(same(edge, name) for edge, name in zip([None] * 4 if missing(line["box_px"]) else line["box_px"], EDGES))
        inside = lambda name, *keys: None if missing(line[name]) else functools.reduce(lambda value, key: value[key], keys, line[name])
        for finding in findings:
            for branch in BRANCHES:
                assert same(inside("probabilities", branch, finding), f"prob_{branch}_{finding}")
            assert same(inside("calibrated", finding), f"calibrated_{finding}")
            assert same(inside("calls", finding), f"call_{finding}")
            assert same(inside("verdicts", finding), f"verdict_{finding}")


def test_the_table_says_what_its_columns_are(written):
    folder, _ = written
    schema = pq.read_schema(folder / "answers.parquet")
    assert schema.metadata[b"agcnn.table"] == b"answers"
    assert all(field.metadata[b"description"] for field in schema)
    verdicts = {value for name in schema.names if name.startswith("verdict_") for value in pd.read_parquet(folder / "answers.parquet")[name].dropna()}
    assert verdicts <= {"present", "absent", "abstain"} and verdicts
