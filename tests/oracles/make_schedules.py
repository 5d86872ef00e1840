"""Writes schedules.json: what torch, optax and fastai give at each step.

pip install torch==2.13.0 optax fastai && python tests/oracles/make_schedules.py
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import jax
import optax
import torch
from fastai.callback import schedule

OUT = Path(__file__).with_name("schedules.json")

# In single precision the ends of the peers' cosines are off by more than what is tested. optax
# computes in JAX's default.
jax.config.update("jax_enable_x64", True)
# fastai makes all its tensors single.
schedule.tensor = lambda values: torch.tensor(list(values), dtype=torch.float64)


def torch_values(make, steps):
    """The rate and the momentum of each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    group, rates, momenta = optimizer.param_groups[0], [], []
    for step in range(steps):
        rates.append(float(group["lr"]))
        momenta.append(float(group["momentum"]))
        if step < steps - 1:
            optimizer.step()
            scheduler.step()
    return {"rates": rates, "momenta": momenta}


def cyclic(**arguments):
    settings = {
        "base_lr": 0.01,
        "max_lr": 0.3,
        "step_size_up": 7,
        "base_momentum": 0.8,
        "max_momentum": 0.9,
        **arguments,
    }
    values = torch_values(
        lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, **settings), 60
    )
    return {"peer": "torch", "schedule": "CyclicLR", "arguments": settings, **values}


def one_cycle(**arguments):
    settings = {"max_lr": 0.1, "base_momentum": 0.85, "max_momentum": 0.95, **arguments}
    make = torch.optim.lr_scheduler.OneCycleLR
    values = torch_values(lambda optimizer: make(optimizer, **settings), settings["total_steps"])
    return {"peer": "torch", "schedule": "OneCycleLR", "arguments": settings, **values}


def optax_rates(name, steps, **arguments):
    at = getattr(optax, name)(**arguments)
    return {
        "peer": "optax",
        "schedule": name,
        "arguments": arguments,
        "rates": [float(at(step)) for step in range(steps)],
    }


def optax_one_cycles(total):
    shape = {"transition_steps": total, "peak_value": 0.1}
    settings = [
        {},
        {"pct_start": 0.4},
        {"div_factor": 4.0, "final_div_factor": 50.0},
        {"pct_start": 0.21, "div_factor": 2.0, "final_div_factor": 1.0},
    ]
    for name in ("cosine_onecycle_schedule", "linear_onecycle_schedule"):
        for one in settings:
            yield optax_rates(name, total + 5, **shape, **one)
    for ends in ((0.3, 0.7), (0.123, 0.987), (0.5, 0.61)):
        how = dict(zip(("pct_start", "pct_final"), ends, strict=True))
        yield optax_rates("linear_onecycle_schedule", total + 5, **shape, **how)


def joined():
    parts = [
        optax.exponential_decay(0.1, 10, 0.9),
        optax.constant_schedule(0.05),
        optax.exponential_decay(0.2, 3, 0.5),
    ]
    at = optax.join_schedules(parts, [20, 30])
    return {
        "peer": "optax",
        "schedule": "join_schedules",
        "arguments": {},
        "rates": [float(at(step)) for step in range(60)],
    }


def fit_one_cycle(steps, rate=0.1, div=25.0, div_final=1e5, pct_start=0.25):
    at = schedule.combined_cos(pct_start, rate / div, rate, rate / div_final)
    arguments = {
        "lr_max": rate,
        "n": steps,
        "div": div,
        "div_final": div_final,
        "pct_start": pct_start,
    }
    rates = [float(at(step / steps)) for step in range(steps)]
    momenta = [
        float(schedule.combined_cos(pct_start, 0.95, 0.85, 0.95)(step / steps))
        for step in range(steps)
    ]
    return {
        "peer": "fastai",
        "schedule": "fit_one_cycle",
        "arguments": arguments,
        "rates": rates,
        "momenta": momenta,
    }


def main():
    warnings.simplefilter("error")
    rows = [
        cyclic(mode="triangular"),
        cyclic(mode="triangular2"),
        cyclic(mode="exp_range", gamma=0.97),
    ]
    for total in (10, 97, 100):
        rows += [
            one_cycle(total_steps=total, anneal_strategy=anneal) for anneal in ("cos", "linear")
        ]
        rows += [
            one_cycle(total_steps=total, anneal_strategy=anneal, three_phase=True)
            for anneal in ("cos", "linear")
        ]
        rows.append(
            one_cycle(total_steps=total, pct_start=0.45, div_factor=4.0, final_div_factor=50.0)
        )
        rows += [
            one_cycle(
                total_steps=total,
                pct_start=0.35,
                div_factor=4.0,
                final_div_factor=50.0,
                anneal_strategy=anneal,
                three_phase=True,
            )
            for anneal in ("cos", "linear")
        ]
        rows += optax_one_cycles(total)
        rows.append(fit_one_cycle(total))
    warmup = {"init_value": 0.001, "peak_value": 0.1, "warmup_steps": 13, "decay_steps": 80}
    rows.append(optax_rates("warmup_cosine_decay_schedule", 90, **warmup, end_value=1e-5))
    rows.append(optax_rates("warmup_cosine_decay_schedule", 90, **warmup))
    rows.append(joined())
    made_with = {name: version(name) for name in ("torch", "optax", "fastai")}
    lines = ",\n".join(json.dumps(row) for row in rows)
    OUT.write_text(
        f'{{"command": "python tests/oracles/make_schedules.py", "made_with": '
        f'{json.dumps(made_with)}, "rows": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
