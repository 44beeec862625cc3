# AG-CNN on ChestX-ray14: every recipe takes the stages' own flags, e.g. `just all --run mine --set attend.threshold=0.6`.

set positional-arguments

bin := env("CARGO_TARGET_DIR", "target") / "release"
stages := "phantom prep global attend local fusion report"

# List the recipes
default:
    @just --list --unsorted

# Everything, small: a synthetic dataset, all six stages and a report, on any CPU, in minutes
[group('pipeline')]
demo *args:
    @just all --config profiles/demo.toml --run demo "$@"

# Every stage in order; a stage that is current returns at once
[group('pipeline')]
all *args: build
    @for stage in {{stages}}; do "{{bin}}/$stage" "$@" || exit $?; done

# Make the synthetic dataset (nothing to do where prep.root names a folder)
[group('pipeline')]
phantom *args: build
    @"{{bin}}/phantom" "$@"

# Read the NIH files: one Parquet row per image, with its split
[group('pipeline')]
prep *args: build
    @"{{bin}}/prep" "$@"

# Train the global branch on whole images
[group('pipeline')]
global *args: build
    @"{{bin}}/global" "$@"

# Find the attended region of every image and crop it
[group('pipeline')]
attend *args: build
    @"{{bin}}/attend" "$@"

# Train the local branch on the attended regions
[group('pipeline')]
local *args: build
    @"{{bin}}/local" "$@"

# Train the fusion layer on the features of both branches
[group('pipeline')]
fusion *args: build
    @"{{bin}}/fusion" "$@"

# Metrics with intervals, figures, one HTML page
[group('pipeline')]
report *args: build
    @"{{bin}}/report" "$@"

# Mean AUROC against the threshold tau: `just sweep "0.5 0.6 0.8" demo --config profiles/demo.toml`; prep and global are shared, not copied
[group('pipeline')]
sweep taus="0.5 0.6 0.7 0.8" run="default" *args="": build
    #!/usr/bin/env bash
    set -euo pipefail
    taus=$1 run=$2
    shift 2
    runs=()
    for tau in $taus; do
        name="$run-tau-$tau"
        runs+=("$name")
        for stage in attend local fusion report; do
            "{{bin}}/$stage" "$@" --run "$name" --base "$run" --set "attend.threshold=$tau"
        done
    done
    "{{bin}}/report" "$@" --run "$run" --sweep "$(IFS=,; echo "${runs[*]}")"

# Compile all stages
[group('pipeline')]
build:
    @cargo build --release --quiet --workspace --bins

# A contact sheet of the synthetic dataset: one row per finding
[group('data')]
phantom-sheet *args:
    cargo run --release --quiet -p phantom --example contact_sheet -- "$@"

# Formatting, lints, tests, docs: what CI runs
[group('check')]
check: fmt-check lint test doc

# Whole pipeline on a handful of images, in seconds
[group('check')]
smoke *args:
    @just all --config profiles/smoke.toml --run smoke "$@"

# Formatting differs? fail
[group('check')]
fmt-check:
    cargo fmt --all --check

# Lints, as errors
[group('check')]
lint:
    cargo clippy --workspace --all-targets --quiet -- -D warnings

# All tests, those of the kernels for each instruction set that this CPU has
[group('check')]
test:
    cargo test --workspace --quiet
    AGCNN_ISA=avx2 cargo test --workspace --quiet --test values --test gradients --test fused --test properties
    AGCNN_ISA=portable cargo test --workspace --quiet --test values --test gradients --test fused --test properties

# The operators' tests under AddressSanitizer, which the stable compiler has behind a switch
[group('check')]
sanitize:
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" cargo test -p ops --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/sanitize

# Docs without warnings
[group('check')]
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

# Speed of the convolution kernels, layer by layer
[group('bench')]
bench *args:
    cargo bench -p ops -- "$@"

# Whole steps beside PyTorch's, interleaved (installs PyTorch into a venv of its own); --layers: where a step's time goes
[group('bench')]
bench-cpu *args:
    cargo build --release --quiet --workspace --examples
    python3 crates/e2e/peers/bench_cpu.py "{{bin}}/examples" "$@"
