#!/usr/bin/env bash
# Installs what the feature `cuda` is built with, without a GPU, a driver or root: toolkit.sh FOLDER, then . FOLDER/env.sh
# The compiler is NVIDIA's, from PyPI (270 MB). Libraries that are only needed to run are linked by their names alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && folder=$(cd "$1" && pwd)
# All of one release: each alone would pull the newest of the others, whose PTX no driver of this release reads.
packages=(
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
)
python3 -m venv "$folder/venv" 2>/dev/null || python3 -m venv --without-pip "$folder/venv"
pip=("$folder/venv/bin/python" -m pip)
"${pip[@]}" --version >/dev/null 2>&1 || pip=(python3 -m pip)
"${pip[@]}" install --quiet --no-compile --no-deps --disable-pip-version-check --only-binary=:all: --upgrade \
    --target "$folder/site" "${packages[@]}"
home=$folder/site/nvidia/cu13
ln -sfn lib "$home/lib64"
ln -sf libcudart.so.13 "$home/lib/libcudart.so"
(cd "$here" && python3 mock/mock.py "$folder/names")
mkdir -p "$home/lib/stubs"
for library in cuda cublas cublasLt curand nvrtc cudnn; do
    cp -L "$folder/names/lib/lib$library.so" "$home/lib/stubs/"
done
cat >"$folder/env.sh" <<X
export CUDA_HOME="$home" CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-90}
export PATH="$home/bin:\$PATH"
X
"$home/bin/nvcc" --version | tail -2 | head -1
command -v g++ >/dev/null || echo "note: nvcc calls g++, which this machine does not have; install it with your package manager" >&2
echo "ready: . $folder/env.sh"
