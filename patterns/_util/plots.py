"""Axes to draw in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def given_or_new_axes(caller: str, ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes that were given, or those of a new figure of pyplot's, which a notebook shows: with
    a pale grid, and open above and on the right.

    Args:
        caller: The function that was called, for the message.
        ax: The caller's axes, or None.
        size: Width and height of a new figure, in inches.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with matplotlib, which is missing: pip install matplotlib."
        ) from error
    if ax is not None:
        return ax
    axes = plt.subplots(figsize=size, layout="constrained")[1]
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
