"""The driver: `model.fit` in segments that end at boundaries."""
