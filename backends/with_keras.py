"""Imported before anything else that needs Keras: where Keras finds no backend, this says how to
choose one.
"""

from . import import_keras

import_keras()
