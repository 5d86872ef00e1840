"""The weights of a pretrained model, into another one."""

from .pretrained import LoadReport, LoadRow, load_pretrained

__all__ = ["LoadReport", "LoadRow", "load_pretrained"]
