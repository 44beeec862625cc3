"""TensorBoard reads the event files, and finds in them what epochs.parquet says."""

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.mark.parametrize("stage", ["global", "local", "fusion"])
def test_events(stage, runs):
    [folder] = (runs.events / "smoke").glob(f"{stage}-*")
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss/train", "loss/validation", "auroc/validation", "lr", "images_per_s"}
    assert ("loss/step" in tags) == (stage != "fusion")
    epochs = pd.read_parquet(runs.artifacts / "smoke" / stage / "epochs.parquet")
    for tag, column in [("loss/train", "train_loss"), ("auroc/validation", "validation_auroc"), ("lr", "lr")]:
        told = [event.value for event in events.Scalars(tag)]
        assert told == pytest.approx(epochs[column].dropna().tolist(), rel=1e-6)
    steps = [event.step for event in events.Scalars("loss/train")]
    assert steps == sorted(set(steps)) and len(steps) == len(epochs)
