#!/usr/bin/env bash
# Figures of one GPU in under ten minutes, on JAX and PyTorch: steps in blocks beside other ways
# (convolutions among them), batches that are copied, the stall of a save, the latency of a signal,
# memory.
#
#   benchmarks/gpu.sh [FOLDER]     writes FOLDER/BACKEND.md; the folder defaults to $OUT, or gpu/
#
# Where python3 has this package and a backend, they are used as they are. Otherwise both are
# installed, with CUDA, into an environment that goes afterwards.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
out=$(realpath -m "${1:-${OUT:-gpu}}")
mkdir -p "$out"
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv > "$out/device.csv"
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
# Kernels that repeat to the bit.
export XLA_FLAGS=--xla_gpu_deterministic_ops=true CUBLAS_WORKSPACE_CONFIG=:4096:8

declare -A packages=([jax]="jax[cuda12] optax" [torch]="torch")
status=0
for backend in jax torch; do
    export KERAS_BACKEND=$backend
    python=python3 environment=""
    if ! python3 -c "import keras_patterns.backends as b; b.current()" 2> /dev/null; then
        environment=$(mktemp -d)
        python=$environment/bin/python
        python3 -m venv --system-site-packages "$environment"
        # shellcheck disable=SC2086
        "$python" -m pip install -q . ${packages[$backend]} 2>&1 | tail -1
    fi
    for script in "bench_fuse.py --rounds 3 --seconds 90" "on_device.py --rounds 2"; do
        # shellcheck disable=SC2086
        timeout 145 "$python" benchmarks/$script >> "$out/$backend.md" 2>> "$out/$backend.log" || status=1
    done
    [ -z "$environment" ] || rm -rf "$environment"
done
exit $status
