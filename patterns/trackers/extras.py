"""The packages of trackers, which few people have all of."""

from __future__ import annotations

from importlib.util import find_spec


def check_installed(caller: str, package: str, extra: str) -> None:
    """Raises if a package is missing. It is imported later, in the thread that sends.

    Raises:
        ImportError: If it is.
    """
    found = find_spec(package)
    # A mere folder of this name, such as the one that W&B writes to, is no package.
    if found is None or found.origin is None:
        raise ImportError(
            f"kp.trackers.{caller} needs {package}, which is missing: pip install {package} (the "
            f"extra `{extra}`)."
        )
