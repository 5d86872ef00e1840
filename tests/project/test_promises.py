"""The page docs/promises.md is what its script makes of the tests."""

import runpy

from places import ROOT


def test_the_table_of_promises_is_up_to_date():
    names = runpy.run_path(str(ROOT / "docs" / "promises.py"))
    assert names["PAGE"].read_text(encoding="utf-8") == names["page"](), (
        "run `python docs/promises.py`"
    )
