"""A run that finds a loss or a weight that is not finite, goes back to where all was sound, and
goes on without what did it.
"""

from .._util.errors import NonFiniteError
from .callback import NonFiniteGuard

__all__ = ["NonFiniteError", "NonFiniteGuard"]
