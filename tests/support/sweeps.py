"""Sweeps of the learning rate that are made of a formula and of noise."""

import numpy as np

from keras_patterns.finder import LearningRateSweep


def sweep_of(curve, smoothing=0.98):
    rates, losses = np.array(curve["rates"]), np.array(curve["losses"])
    return LearningRateSweep(
        rates, losses, curve.get("steps", len(rates)), "all steps were made", smoothing
    )


def made(losses, low=1e-6, high=1.0, smoothing=0.98):
    curve = {"rates": np.geomspace(low, high, len(losses)), "losses": losses}
    return sweep_of(curve, smoothing)


def noise(seed, points=100, deviation=0.1):
    return 2.3 + deviation * np.random.default_rng(seed).normal(size=points)


def descent(seed=0, points=100, deviation=0.1):
    """Falls from 2.3 to 0.3, half of it at 1e-3, and rises from 0.1 on, with noise."""
    rates = np.geomspace(1e-6, 1.0, points)
    return noise(seed, points, deviation) - 2 / (1 + (1e-3 / rates) ** 1.5) + (rates / 0.3) ** 2
