"""Writes rules.json: what fastai's four rules suggest for the curves of curves.json and for some
formulas.

pip install torch==2.13.0 fastai && python tests/oracles/make_rules.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from fastai.callback import schedule

HERE = Path(__file__).parent
RULES = ("valley", "steep", "minimum", "slide")
SMOOTHING = 0.98


def recorded():
    """As fastai's Recorder smooths them, and as its finder cuts them."""
    for name, curve in json.loads((HERE / "curves.json").read_text()).items():
        mean, smoothed = 0.0, []
        for count, loss in enumerate(curve["losses"], start=1):
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smoothed.append(mean / (1 - SMOOTHING**count))
        part = slice(curve["steps"] // 10, -5)
        yield name, curve["rates"][part], smoothed[part]


def formulas():
    for points in (20, 85, 200):
        rates = np.geomspace(1e-6, 1.0, points)
        place = np.log10(rates)
        fall = 2.3 - 2.0 / (1 + np.exp(-3 * (place + 3)))
        yield f"falls and diverges, {points}", rates, fall + (rates / 0.2) ** 2
        yield f"falls for ever, {points}", rates, fall
        yield f"falls, with a wave, {points}", rates, fall + 0.2 * np.sin(7 * place)
        yield f"a parabola, {points}", rates, (place + 2.5) ** 2
        yield f"rises, {points}", rates, np.sqrt(1 + rates)


def main():
    rows = []
    for name, rates, losses in [*recorded(), *formulas()]:
        rates, losses = np.asarray(rates, "float64"), np.asarray(losses, "float64")
        found = {
            rule: getattr(schedule, rule)(torch.tensor(rates), torch.tensor(losses), len(rates))[0]
            for rule in RULES
        }
        values = {"rates": rates.tolist(), "losses": losses.tolist()}
        rows.append(
            {"curve": name, **values, "fastai": {rule: float(rate) for rule, rate in found.items()}}
        )
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = (
        f'"command": "python tests/oracles/make_rules.py", "made_with": {{"fastai": '
        f'"{version("fastai")}"}}'
    )
    (HERE / "rules.json").write_text(f'{{{head}, "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
