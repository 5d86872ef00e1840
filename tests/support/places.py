"""Where things lie in the checkout."""

import json
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent


def oracle(name: str) -> Any:
    """The contents of a JSON file of tests/oracles."""
    return json.loads((TESTS / "oracles" / name).read_text(encoding="utf-8"))
