"""The command line. It looks at checkpoints without Keras."""

from .program import main

__all__ = ["main"]
