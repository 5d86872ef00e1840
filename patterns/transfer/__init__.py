"""Pretrained models: a new head on their features, and their weights into another model."""

from .head import replace_head
from .pretrained import LoadReport, LoadRow, load_pretrained

__all__ = ["LoadReport", "LoadRow", "load_pretrained", "replace_head"]
