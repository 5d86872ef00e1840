"""Selecting layers and variables of a model: by name, by predicate, by depth."""

from .depth import depths
from .where import Selection, Where, describe, nodes_of, select

__all__ = ["Selection", "Where", "depths", "describe", "nodes_of", "select"]
