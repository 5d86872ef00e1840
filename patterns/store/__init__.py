"""How a training run lies on disk: atomic, checked, kept by policy."""
