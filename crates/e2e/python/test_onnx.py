"""ONNX Runtime computes from our ONNX files what our own evaluation computes."""

import json
import subprocess

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from conftest import BINARIES, ROOT, STAGES

# Largest difference: of probabilities as they are, of other values relative to max(1, |value|).
TOLERANCE = 1e-5

# Backbone, pool, statistic, where the heat map's cells lie, side of stored images, side of the input.
CASES = [
    ("mini", "max", "max", "receptive", 72, 64),
    ("mini", "avg", "l1", "grid", 75, 65),
    ("mini", "lse", "l2", "grid", 64, 64),
    ("resnet18", "max", "max", "grid", 256, 224),
    ("resnet34", "lse", "max", "grid", 128, 112),
    ("resnet50", "max", "max", "grid", 256, 224),
    ("resnet101", "avg", "l2", "grid", 128, 112),
    ("densenet121", "max", "max", "grid", 256, 224),
    ("densenet121", "lse", "l1", "receptive", 108, 99),
]

# Where the first cell of a last map has its centre, and from one centre to the next, in px of the input.
CELLS = {"mini": {"first_px": 0.5, "step_px": 16.0}, "densenet121": {"first_px": 14.5, "step_px": 32.0}}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    command = [BINARIES / "examples/onnx", folder, *request.param]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, request.param


def session(path):
    """The model as it is written, in an ONNX Runtime on the CPU, and its metadata."""
    onnx.checker.check_model(str(path), full_check=True)
    opened = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return opened, opened.get_modelmeta().custom_metadata_map


def run(opened, **inputs):
    return dict(zip([output.name for output in opened.get_outputs()], opened.run(None, inputs)))


def differ(got, expected, relative=True):
    assert got.shape == expected.shape
    scale = np.maximum(1, np.abs(expected)) if relative else 1
    return float(np.max(np.abs(got.astype(np.float64) - expected) / scale))


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def statistic(name, feature_map):
    """By the definition, of [N, h, w, K]."""
    magnitude = np.abs(feature_map)
    match name:
        case "max":
            return magnitude.max(-1)
        case "l1":
            return magnitude.mean(-1)
        case "l2":
            return np.sqrt((magnitude**2).sum(-1)) / magnitude.shape[-1]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_branch(case, batch):
    folder, (backbone, pool, heat, _, image_px, input_px) = case
    opened, metadata = session(folder / "branch.onnx")
    frame = json.loads(metadata["agcnn.frame"])
    assert frame == {"crop": "centre", "image_px": image_px, "input_px": input_px}
    offset = (frame["image_px"] - frame["input_px"]) // 2
    part = slice(offset, offset + frame["input_px"])
    images = np.load(folder / "images.npy")[:batch, None, part, part]
    load = lambda name: np.load(folder / f"{name}.npy")[:batch].astype(np.float64)

    got = run(opened, image=images)
    logits = load("logits")
    assert 0.3 < logits.std() < 30 and 0.02 < sigmoid(logits).std(), "an example in which a difference shows"
    differences = {
        "probabilities": differ(got.pop("probabilities"), sigmoid(logits), relative=False),
        "logits": differ(got.pop("logits"), logits),
        "features": differ(got.pop("features"), load("features")),
        "heat_map": differ(got.pop("heat_map"), statistic(heat, load("map"))),
    }
    assert not got, "another output"
    print(f"{backbone} {pool} {heat} {input_px} px, batch {batch}:", ", ".join(f"{name} {value:.1e}" for name, value in differences.items()))
    assert max(differences.values()) <= TOLERANCE, differences


def test_the_fusion_layer(case):
    folder, _ = case
    opened, metadata = session(folder / "fusion.onnx")
    features, logits = np.load(folder / "features.npy"), np.load(folder / "fusion_logits.npy").astype(np.float64)
    for batch in [1, 3]:
        got = run(opened, global_features=features[:batch], local_features=features[:batch])
        assert differ(got["logits"], logits[:batch]) <= TOLERANCE
        assert differ(got["probabilities"], sigmoid(logits[:batch]), relative=False) <= TOLERANCE
    assert metadata["agcnn.backbone"] == "fusion" and "agcnn.frame" not in metadata


def test_what_a_file_says(case):
    folder, (backbone, pool, heat, alignment, _, input_px) = case
    model = onnx.load(folder / "branch.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["agcnn.backbone"], metadata["agcnn.pool"]) == (backbone, pool)
    assert metadata["agcnn.notice"] == "not for clinical use" and "not for clinical use" in model.doc_string
    findings = metadata["agcnn.findings"].split(",")
    assert findings[0] == "atelectasis" and len(findings) == np.load(folder / "logits.npy").shape[1]
    cells = {"cells": CELLS[backbone]} if alignment == "receptive" else {}
    assert json.loads(metadata["agcnn.heat_map"]) == {"statistic": heat, "normalise": "minmax"} | cells
    assert "(H - min H) / (max H - min H)" in model.graph.doc_string
    shapes = {value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in model.graph.input}
    assert shapes == {"image": ["N", 1, input_px, input_px]}
    assert all(value.doc_string for value in [*model.graph.input, *model.graph.output])


def test_constants_are_the_weights(case):
    folder, _ = case
    bytes_ = (folder / "weights.safetensors").read_bytes()
    end = 8 + int.from_bytes(bytes_[:8], "little")
    header = json.loads(bytes_[8:end])
    header.pop("__metadata__")
    model = onnx.load(folder / "branch.onnx")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        weights = np.frombuffer(bytes_[end + first : end + last], "<f4").reshape(entry["shape"])
        assert np.array_equal(constants.pop(name), weights), name
    assert all(name.split(".")[0] in {"normalise", "pool", "attend"} for name in constants)


@pytest.mark.parametrize("alignment", ["grid", "receptive"])
def test_the_documented_program(runs, alignment, tmp_path, monkeypatch):
    """docs/onnx.md finds the boxes of `regions`, and from them what `predictions` say, but for Pillow's resizing."""
    name = "smoke"
    if alignment != "grid":
        name = alignment
        for stage in STAGES:
            runs.stage(stage, "--run", name, "--set", f"attend.alignment={alignment}")
    run = runs.artifacts / name
    model = tmp_path / "model"
    command = [BINARIES / "predict", "--artifacts-dir", runs.artifacts, "--run", name, "export", "--onnx", model]
    subprocess.run(command, check=True)
    [program] = (ROOT / "docs/onnx.md").read_text().split("```python\n")[1:]
    program = program.split("```")[0]
    monkeypatch.chdir(model / "onnx")
    table = lambda path: pd.read_parquet(run / path).set_index("image_id")
    regions, predictions, alone = (table(f"{path}.parquet") for path in ["attend/regions-00000-of-00001", "fusion/predictions", "global/predictions"])
    for image_id, image in table("prep/images/test-00000-of-00001.parquet").iterrows():
        (model / "onnx/image.png").write_bytes(image["image"]["bytes"])
        names = {}
        exec(program, names)
        assert names["box"] == tuple(regions.loc[image_id, ["x_min_px", "y_min_px", "x_max_px", "y_max_px"]])
        logits = lambda rows: rows.loc[image_id, [f"logit_{finding}" for finding in names["findings"]]].to_numpy(np.float64)
        assert differ(names["first"]["logits"][0], logits(alone)) <= TOLERANCE
        assert differ(names["fused"]["probabilities"][0], sigmoid(logits(predictions)), relative=False) <= 0.01
