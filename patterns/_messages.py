"""What a run tells the person who started it."""

from __future__ import annotations


def say(text: str, below_bar: bool = False) -> None:
    """Prints one line that says where it comes from; below a progress bar that is still open, if there is one."""
    print(f"{chr(10) * below_bar}keras-patterns: {text}", flush=True)
