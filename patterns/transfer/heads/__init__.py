"""A new head on the features of a pretrained model."""

from .head import replace_head

__all__ = ["replace_head"]
