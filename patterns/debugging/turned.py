"""Masks that are turned against their pictures: little can be learnt from them."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from .examined import Examined
from .finding import Finding
from .outputs import is_whole

_MOST_PIXELS = 200_000


def check_turned(examined: Examined) -> Iterator[Finding]:
    """Masks that fit their pictures better once they are turned, transposed or mirrored."""
    leaves = keras.tree.flatten(examined.batch[0])
    for one in examined.outputs:
        for picture in leaves if one.y.ndim in (3, 4) else []:
            if not _may_be_pictures(picture, one.y):
                continue
            count = max(1, _MOST_PIXELS // one.y[0].size)
            as_given, *others = _explained(picture[:count], one.y[:count])
            best, how = max(others)
            if best > 0.1 and best > 1.5 * as_given[0] + 0.02:
                yield Finding(
                    "label_noise",
                    "warning",
                    f"The pixels tell {as_given[0]:.0%} of the masks of {one.named}, and "
                    f"{best:.0%} of the masks {how}.",
                    {"as given": as_given[0], how: best},
                    "Bring pictures and masks into one order of rows and columns.",
                )


def _may_be_pictures(x: np.ndarray, y: np.ndarray) -> bool:
    if x.ndim not in (3, 4) or x.dtype.kind not in "fiub" or x.shape[1:3] != y.shape[1:3]:
        return False
    is_one = y[0].size == y.shape[1] * y.shape[2] and min(y.shape[1:3]) >= 4
    return is_one and is_whole(y) and bool(np.isfinite(x).all())


def _explained(pictures: np.ndarray, masks: np.ndarray) -> list[tuple[float, str]]:
    """The share of the variance of masks that the pixels there and around tell, for the masks as
    they are, and turned in each way.
    """
    count, height, width = masks.shape[:3]
    masks = masks.reshape(count, height, width)
    values = pictures.reshape(count, height, width, -1).astype("float64")
    around = sum(np.roll(values, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    features = np.concatenate([values, values**2, around, around**2], axis=-1)
    features = features.reshape(-1, features.shape[-1])
    features = features - features.mean(axis=0)
    basis = np.linalg.qr(features / (features.std(axis=0) + 1e-12))[0]
    ways = {
        "as they are": masks,
        "mirrored": masks[:, :, ::-1],
        "upside down": masks[:, ::-1],
        "turned by half": masks[:, ::-1, ::-1],
    }
    if height == width:
        ways |= {
            "transposed": masks.swapaxes(1, 2),
            "turned": np.rot90(masks, 1, (1, 2)),
            "turned the other way": np.rot90(masks, -1, (1, 2)),
        }
    found = []
    for how, turned in ways.items():
        flat = turned.reshape(-1).astype("float64")
        flat = flat - flat.mean()
        total = float(flat @ flat)
        found.append((float(np.square(basis.T @ flat).sum() / total) if total else 0.0, how))
    return found
