"""What a run tells the person who started it."""

from __future__ import annotations


def say(text: str) -> None:
    """Prints one line that says where it comes from."""
    print(f"keras-patterns: {text}", flush=True)
