"""The batch size: speed, noise, and a recommendation."""

from .batch_size import probe_batch_size
from .batch_size_noise import NoiseScale
from .batch_size_report import BatchSizeReport
from .batch_size_speed import Speed

__all__ = ["BatchSizeReport", "NoiseScale", "Speed", "probe_batch_size"]
