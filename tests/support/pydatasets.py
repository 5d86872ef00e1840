"""Datasets of the tests that other processes import: those find this folder, but no test module."""

import random

import keras
import numpy as np


class Numbers(keras.utils.PyDataset):
    """Gives its indices."""

    def __init__(self, length=5, **workers):
        super().__init__(**workers)
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.array([index]), np.array([0])


class Noisy(Numbers):
    """Draws from the global random states."""

    def __getitem__(self, index):
        return np.array([index]), np.array([random.random(), np.random.random()])
