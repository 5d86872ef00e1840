"""The run: `model.fit` in segments, and what happens at the boundaries between steps."""
