"""Two runs of the smallest dataset, by the stages' own binaries: `smoke` with a sweep and a second seed, and what the sweep made."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[3]
BINARIES = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"
STAGES = ["phantom", "prep", "global", "attend", "local", "fusion", "report"]


class Runs:
    """Where the runs are, and how to ask a stage for more."""

    def __init__(self, folder):
        self.folder = folder
        self.artifacts = folder / "artifacts"
        self.events = folder / "events"

    def stage(self, name, *args):
        command = [BINARIES / name, "--config", ROOT / "profiles/smoke.toml", "--set", "phantom.patients=60", *args]
        done = subprocess.run(list(map(str, command)), cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("runs"))
    for stage in STAGES:
        runs.stage(stage, "--run", "smoke", "--tensorboard", "events")
    for tau in ["0.3", "0.9"]:
        for stage in STAGES:
            runs.stage(stage, "--run", f"tau-{tau}", "--set", f"attend.threshold={tau}")
    runs.stage("report", "sweep", "tau-0.3", "tau-0.9", "--run", "smoke")
    runs.stage("report", "--run", "smoke")
    for stage in STAGES:
        runs.stage(stage, "--run", "seed-2", "--seed", "2")
    runs.stage("report", "seeds", "smoke", "seed-2", "--run", "smoke")
    return runs
