"""Writes layerwise.json: the scales that timm gives to the layers of a model, and the rates of
fastai's groups at each step.

pip install torch==2.13.0 timm fastai && python tests/oracles/make_layerwise.py
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

# timm and fastai import torchvision, which a CPU build of torch may not fit; none of its operators
# is used here.
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
from fastai.optimizer import SGD, even_mults  # noqa: E402
from fastai.torch_core import params  # noqa: E402
from timm.models.vgg import VGG  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from timm.optim import param_groups_layer_decay  # noqa: E402
from torch import nn  # noqa: E402

OUT = Path(__file__).with_name("layerwise.json")

# fastai makes all its tensors single.
schedule.tensor = lambda values: torch.tensor(list(values), dtype=torch.float64)


class MLP(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(4, 5),
            nn.ReLU(),
            nn.Linear(5, 5),
            nn.ReLU(),
            nn.Linear(5, 5),
            nn.ReLU(),
            nn.Linear(5, 1),
        )

    def group_matcher(self, coarse=False):
        return {"layers": r"^(\d+)"}


def scales(name, model, layer_decay):
    """The scale of each module that holds parameters, in the model's order."""
    groups = param_groups_layer_decay(model, layer_decay=layer_decay)
    scale_of = {
        id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]
    }
    found = {}
    for path, parameter in model.named_parameters():
        found.setdefault(path.rpartition(".")[0], set()).add(scale_of[id(parameter)])
    assert all(len(values) == 1 for values in found.values())
    return {
        "peer": "timm",
        "model": name,
        "decay": layer_decay,
        "scales": {path: values.pop() for path, values in found.items()},
    }


def timm_rows():
    small_vit = {
        "img_size": 8,
        "patch_size": 4,
        "embed_dim": 8,
        "depth": 3,
        "num_heads": 2,
        "num_classes": 3,
    }
    vit = VisionTransformer(
        **small_vit, class_token=False, pos_embed="none", global_pool="avg", fc_norm=False
    )
    vgg = VGG([4, "M", 6, 6, "M", 8, "M"], num_classes=3)
    return [
        scales(*model, decay)
        for model in (("MLP", MLP()), ("ViT", vit), ("VGG", vgg))
        for decay in (0.75, 0.5)
    ]


class Rates(Callback):
    """The rate of each group before each batch."""

    order, run_valid = 70, False  # after the schedule

    def __init__(self):
        self.rates = []

    def before_batch(self):
        self.rates.append([float(group["lr"]) for group in self.opt.hypers])


def one_cycle(lr_max, steps=12):
    data = DataLoader([(torch.ones(4), torch.ones(1))] * steps, bs=1)
    split = [[0], [2], [4, 6]]
    learner = Learner(
        DataLoaders(data, data),
        MLP(),
        loss_func=nn.MSELoss(),
        opt_func=SGD,
        splitter=lambda model: [[p for i in group for p in params(model[i])] for group in split],
    )
    recorded = Rates()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1, lr_max, cbs=recorded)
    given = {"start": lr_max.start, "stop": lr_max.stop}
    return {"peer": "fastai", "lr_max": given, "groups": split, "rates": recorded.rates}


def fastai_rows():
    mults = [
        {"peer": "fastai", "even_mults": [0.01, 0.2, n], "rates": list(even_mults(0.01, 0.2, n))}
        for n in (2, 3, 5)
    ]
    return [*mults, one_cycle(slice(0.01, 0.2)), one_cycle(slice(0.2))]


def main():
    warnings.simplefilter("error")
    made_with = {name: version(name) for name in ("torch", "timm", "fastai")}
    lines = ",\n".join(json.dumps(row) for row in [*timm_rows(), *fastai_rows()])
    OUT.write_text(
        f'{{"command": "python tests/oracles/make_layerwise.py", "made_with": '
        f'{json.dumps(made_with)}, "rows": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
