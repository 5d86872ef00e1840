"""The picture of a run: its learning curves, and what happened on the way."""

from .picture import plot_history

__all__ = ["plot_history"]
