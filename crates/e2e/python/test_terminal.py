"""What `report` prints of runs that share stages by reference."""

import pandas as pd


def test_compares_a_run_with_one_that_stands_on_it(runs):
    said = runs.stage("report", "compare", "smoke", "tau-0.3")
    assert said.startswith("AUROC of fusion: smoke (A) and tau-0.3 (B) on ")
    both = runs.stage("report", "compare", "tau-0.3", "tau-0.9", "--branch", "local")
    assert "AUROC of local: tau-0.3 (A) and tau-0.9 (B)" in both
    # The global branch is the same one in all of them, and is not in the others' folders.
    metrics = [pd.read_parquet(runs.artifacts / run / "report/metrics.parquet") for run in ["smoke", "tau-0.3"]]
    same = "branch == 'global' and finding == 'mean' and metric == 'auroc' and subset == 'all' and split == 'test'"
    assert len({table.query(same).value.item() for table in metrics}) == 1


def test_shows_an_image(runs, tmp_path):
    images = pd.read_parquet(runs.artifacts / "smoke/prep/images/test-00000-of-00001.parquet", columns=["image_id"])
    said = runs.stage("report", "show", images.image_id[0], "--run", "smoke", "--output", tmp_path / "overlay.png")
    assert images.image_id[0] in said and "fusion's threshold" in said
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
