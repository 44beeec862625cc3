"""Intervals of a report beside scikit-learn's: bench_intervals.py EXAMPLES [--draws N] [--pairs N]

Ours draws patients 2,000 times over 25,596 images x 15 outputs x 3 branches (crates/cxr/examples/intervals.rs). The peer is what
notebooks do: roc_auc_score and average_precision_score of every output and branch on each draw's images; it is timed on a few draws,
on as many processes as there are cores, and scaled. Pairs are interleaved; medians count.
"""

import argparse
import multiprocessing
import os
import pathlib
import re
import statistics
import subprocess
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

IMAGES, PATIENTS, OUTPUTS, BRANCHES = 25_596, 2_797, 15, 3
RNG = np.random.default_rng(1)
PATIENT = np.arange(IMAGES) % PATIENTS
TRUTH = RNG.random((OUTPUTS, IMAGES)) < (0.002 + 0.02 * np.arange(OUTPUTS))[:, None]
SCORES = RNG.random((BRANCHES, OUTPUTS, IMAGES)) + 0.4 * TRUTH


def draw(seed):
    weights = np.bincount(np.random.default_rng(seed).integers(PATIENTS, size=PATIENTS), minlength=PATIENTS)
    images = np.repeat(np.arange(IMAGES), weights[PATIENT])
    for scores in SCORES[:, :, images]:
        for truth, score in zip(TRUTH[:, images], scores):
            roc_auc_score(truth, score)
            average_precision_score(truth, score)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", type=pathlib.Path)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    cores = os.cpu_count()
    ours, theirs = [], []
    with multiprocessing.Pool(cores) as pool:
        pool.map(draw, range(cores))
        for _ in range(args.pairs):
            said = subprocess.run([args.examples / "intervals", str(args.draws)], capture_output=True, text=True, check=True).stdout
            ours.append(float(re.match(r"[\d.]+", said)[0]))
            few = 2 * cores
            start = time.perf_counter()
            pool.map(draw, range(few), chunksize=1)
            theirs.append((time.perf_counter() - start) / few * args.draws)
    print(f"{args.draws} draws on {cores} cores: ours {statistics.median(ours):.2f} s, scikit-learn {statistics.median(theirs):.0f} s")
    print(f"ratio intervals {statistics.median(t / o for t, o in zip(theirs, ours)):.0f}")
