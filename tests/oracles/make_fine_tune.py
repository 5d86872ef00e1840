"""Writes fine_tune.json: what fastai's `fine_tune` trains, and at which rates and momentum, at each
step.

pip install torch==2.13.0 fastai && python tests/oracles/make_fine_tune.py
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

# fastai imports torchvision, which a CPU build of torch may not fit; none of its operators is used
# here.
register_fake = torch.library.register_fake
torch.library.register_fake = lambda name, *rest, **how: (
    (lambda function: function)
    if str(name).startswith("torchvision::")
    else register_fake(name, *rest, **how)
)

from fastai.callback import schedule  # noqa: E402
from fastai.callback.core import Callback  # noqa: E402
from fastai.data.core import DataLoaders  # noqa: E402
from fastai.data.load import DataLoader  # noqa: E402
from fastai.learner import Learner  # noqa: E402
from fastai.optimizer import SGD  # noqa: E402
from fastai.torch_core import params  # noqa: E402
from torch import nn  # noqa: E402

OUT = Path(__file__).with_name("fine_tune.json")

# fastai makes all its tensors single.
schedule.tensor = lambda values: torch.tensor(list(values), dtype=torch.float64)


class Steps(Callback):
    """The groups before each batch."""

    order, run_valid = 70, False  # after the schedule

    def __init__(self):
        self.trained, self.rates, self.momenta = [], [], []

    def before_batch(self):
        self.trained.append([group[0].requires_grad for group in self.opt.param_lists])
        self.rates.append([float(group["lr"]) for group in self.opt.hypers])
        (momentum,) = {float(group["mom"]) for group in self.opt.hypers}
        self.momenta.append(momentum)


def fine_tune(batches, epochs, freeze_epochs, **arguments):
    data = DataLoader([(torch.ones(4), torch.ones(1))] * batches, bs=1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 1))
    learner = Learner(
        DataLoaders(data, data),
        model,
        loss_func=nn.MSELoss(),
        opt_func=lambda groups, lr: SGD(groups, lr, mom=0.9),
        splitter=lambda model: [params(model[number]) for number in (0, 2, 4)],
    )
    recorded = Steps()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs, freeze_epochs=freeze_epochs, **arguments, cbs=recorded)
    steps = {"head_steps": batches * freeze_epochs, "all_steps": batches * epochs}
    return {
        **steps,
        "arguments": arguments,
        "trained": recorded.trained,
        "rates": recorded.rates,
        "momenta": recorded.momenta,
    }


def main():
    warnings.simplefilter("error")
    rows = [
        fine_tune(4, 2, 1),
        fine_tune(1, 3, 1),
        fine_tune(3, 1, 2, base_lr=0.1),
        fine_tune(2, 4, 3, base_lr=0.05, lr_mult=20, pct_start=0.5, div=10.0),
    ]
    made_with = {name: version(name) for name in ("torch", "fastai")}
    lines = ",\n".join(json.dumps(row) for row in rows)
    OUT.write_text(
        f'{{"command": "python tests/oracles/make_fine_tune.py", "made_with": '
        f'{json.dumps(made_with)}, "rows": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
