"""Every table opens in the libraries that researchers use, with the same rows and columns."""

import json

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

TABLES = [
    "prep/images/train-00000-of-00001.parquet",
    "prep/images/test-00000-of-00001.parquet",
    "global/features.parquet",
    "global/predictions.parquet",
    "global/epochs.parquet",
    "attend/regions-00000-of-00001.parquet",
    "attend/class_maps.parquet",
    "local/features.parquet",
    "fusion/predictions.parquet",
    "fusion/epochs.parquet",
    "report/metrics.parquet",
    "sweep/sweep.parquet",
    "seeds/metrics.parquet",
]


def test_these_are_all_kinds(runs):
    kinds = lambda paths: {pq.read_schema(path).metadata[b"agcnn.table"] for path in paths}
    run = runs.artifacts / "smoke"
    assert kinds(path for stage in run.iterdir() for path in stage.resolve().rglob("*.parquet")) == kinds(run / name for name in TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_opens_everywhere(name, runs, tmp_path):
    path = str(runs.artifacts / "smoke" / name)
    arrow = pq.read_table(path)
    assert arrow.num_rows > 0
    opened = {
        "pandas": pd.read_parquet(path),
        "polars": pl.read_parquet(path),
        "DuckDB": duckdb.sql(f"SELECT * FROM '{path}'").to_arrow_table(),
        "datasets": datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=str(tmp_path)),
    }
    for library, table in opened.items():
        columns = table.column_names if hasattr(table, "column_names") else list(table.columns)
        assert list(columns) == arrow.column_names, library
        assert len(table) == arrow.num_rows, library
    for field in arrow.schema:
        assert field.metadata[b"description"], field.name


def test_images_are_images(runs, tmp_path):
    for name, column in [(TABLES[1], "image"), (TABLES[5], "crop")]:
        path = str(runs.artifacts / "smoke" / name)
        table = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=str(tmp_path))
        assert isinstance(table.features[column], datasets.Image)
        assert table[0][column].mode == "L" and table[0][column].size == (48, 48)


def test_facts_are_json(runs):
    facts = lambda name: json.loads(pq.read_schema(runs.artifacts / "smoke" / name).metadata[b"agcnn.facts"])
    images, regions = facts(TABLES[0]), facts(TABLES[5])
    assert images["dataset"] == "phantom" and images["size_px"] == 48
    assert regions["frame"]["image_px"] == 48 and regions["size_px"] == 48
    assert images == facts(TABLES[1]), "all files of a table state the same"


def test_what_is_undefined_is_null(runs):
    metrics = pl.read_parquet(runs.artifacts / "smoke" / "report" / "metrics.parquet")
    undefined = metrics.filter(pl.col("value").is_null())
    assert len(undefined) > 0, "a dataset this small lacks something"
    assert undefined["reason"].null_count() == 0
    one_class = (pl.col("n_pos") == 0) | (pl.col("n_neg") == 0)
    lonely = metrics.filter((pl.col("metric") == "auroc") & (pl.col("finding") != "mean") & one_class)
    assert lonely["value"].null_count() == len(lonely) > 0
    manifest = json.loads((runs.artifacts / "smoke" / "report" / "manifest.json").read_text())
    mean = metrics.filter(
        (pl.col("branch") == "fusion") & (pl.col("finding") == "mean") & (pl.col("metric") == "auroc")
        & (pl.col("subset") == "all") & (pl.col("split") == "test")
    )
    assert mean["value"].to_list() == [manifest["metrics"]["mean_auroc"]["fusion"]]
