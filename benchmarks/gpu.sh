#!/usr/bin/env bash
# Figures of one GPU in under ten minutes, on JAX and PyTorch: steps in blocks beside other ways
# (convolutions among them), the stall of a save, the latency of a signal, memory.
#
#   benchmarks/gpu.sh [FOLDER]     writes FOLDER/BACKEND.md; the folder defaults to $OUT, or gpu/
#
# A backend that is not installed is installed, with CUDA, into an environment of its own.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
out=$(realpath -m "${1:-${OUT:-gpu}}")
mkdir -p "$out"
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv > "$out/device.csv"

declare -A packages=([jax]="jax[cuda12] optax" [torch]="torch")
status=0
for backend in jax torch; do
    environment=$(mktemp -d)
    python3 -m venv --system-site-packages "$environment"
    # shellcheck disable=SC2086
    "$environment/bin/pip" install -q . ${packages[$backend]} 2>&1 | tail -1
    for script in "bench_fuse.py --rounds 5" "on_device.py --rounds 3"; do
        # shellcheck disable=SC2086
        KERAS_BACKEND=$backend XLA_PYTHON_CLIENT_PREALLOCATE=false \
            timeout 140 "$environment/bin/python" benchmarks/$script >> "$out/$backend.md" 2>> "$out/$backend.log" || status=1
    done
    rm -rf "$environment"
done
exit $status
