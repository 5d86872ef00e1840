"""Writes sweeps.json: the losses of sweeps of the benchmark's nets and of the demo's, by backend.

for backend in jax torch; do    # in an environment with this package, scikit-learn and backends
    KERAS_BACKEND=$backend PYTHONPATH=benchmarks python tests/oracles/make_sweeps.py
done
"""

import json
from pathlib import Path

import keras
from bench_finder import sweeps

OUT = Path(__file__).with_name("sweeps.json")
SEEDS = (0, 16, 17)


def main():
    backend = keras.backend.backend()
    rows = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name, sweep in sweeps().items():
        for seed in SEEDS:
            found = sweep(seed)
            rows[f"{backend}: {name}, seed {seed}"] = {
                "steps": found.steps,
                "rates": [float(found.rates[0]), float(found.rates[-1])],
                "losses": [float(f"{loss:.6g}") for loss in found.losses],
            }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    OUT.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
