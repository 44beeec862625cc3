"""Mean test AUROC of the global branch over many seeds, ours and PyTorch's (crates/e2e/peers), on one fixed split.

    just bench-seeds 32 ../shared/nih

Trains profiles/nih-seeds.toml, one seed of ours, then the same seed of PyTorch's, --at-once seeds side by side, and
prints the difference of the means with its interval (Welch's t over the seeds; the patients are the same). The file
--out holds every seed, and those that it holds are not trained again. Both AUROCs come from scikit-learn. Needs torch, torchvision, pyarrow, scikit-image,
scikit-learn and scipy in the Python that runs it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import scipy.stats
from sklearn.metrics import roc_auc_score

from machine import cpu

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "profiles/nih-seeds.toml"


def mean_auroc(table):
    """Mean over the 14 findings that the test images have with and without."""
    table = table.to_pandas()
    table = table[table["split"] == "test"]
    findings = [name.removeprefix("logit_") for name in table if name.startswith("logit_")]
    values = [
        roc_auc_score(table[f"label_{name}"], table[f"logit_{name}"])
        for name in findings
        if name != "no_finding" and table[f"label_{name}"].nunique() == 2
    ]
    return float(np.mean(values))


def run(programs, stage, folder, root, seed, threads):
    flags = ["--config", PROFILE, "--set", f"prep.root={root}", "--artifacts-dir", folder, "--run", f"seed-{seed}", "--seed", str(seed), "-q"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    subprocess.run([Path(programs, stage), *flags, "--device", "cpu"], check=True, env=environment)


def torchs(folder, seed, threads):
    command = [sys.executable, ROOT / "crates/e2e/peers/agcnn_torch.py", Path(folder, f"seed-{seed}/prep"), PROFILE]
    command += ["--seed", str(seed), "--threads", str(threads), "--only-global"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said)["branches"]["global"]["mean_auroc"]


def summary(seeds):
    a, b = (np.array([row[name] for row in seeds]) for name in ("ours", "torch"))
    test = scipy.stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return {
        "seeds": len(seeds),
        "ours": float(a.mean()),
        "ours_sd": float(a.std(ddof=1)),
        "torch": float(b.mean()),
        "torch_sd": float(b.std(ddof=1)),
        "difference": float(a.mean() - b.mean()),
        "interval": [float(low), float(high)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="folder of prep and global")
    parser.add_argument("root", help="folder of NIH's files")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="seeds trained side by side")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument("--out", default=ROOT / "benches/results/seeds-torch.json")
    args = parser.parse_args()
    out = Path(args.out)
    done = json.loads(out.read_text())["trained"] if out.exists() else []
    left = sorted(set(range(1, args.seeds + 1)) - {row["seed"] for row in done})
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.at_once) as pool:

        def pair(seed):
            run(args.programs, "global", folder, args.root, seed, args.threads)
            ours = mean_auroc(pq.read_table(Path(folder, f"seed-{seed}/global/predictions.parquet")))
            return {"seed": seed, "ours": ours, "torch": torchs(folder, seed, args.threads)}

        for seed in left:
            run(args.programs, "prep", folder, args.root, seed, args.threads)
        for future in as_completed([pool.submit(pair, seed) for seed in left]):
            done = sorted([*done, future.result()], key=lambda row: row["seed"])
            result = {"machine": cpu(), "profile": PROFILE.name, "trained": done}
            if len(done) > 1:
                result["summary"] = summary(done)
            out.parent.mkdir(exist_ok=True)
            unfinished = out.with_suffix(".partial")
            unfinished.write_text(json.dumps(result, indent=1) + "\n")
            unfinished.replace(out)
            print(json.dumps(future.result() | {"summary": result.get("summary")}), flush=True)


if __name__ == "__main__":
    main()
