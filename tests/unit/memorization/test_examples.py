"""The examples of kp.memorize certify what they promise."""

import runpy

import pytest
from places import ROOT

pytestmark = pytest.mark.once


@pytest.mark.sampled(3, "gallery", "jax", "tensorflow")
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("memorize_logistic_growth", 1e-3),
        ("memorize_heat_equation", 1e-3),
        ("distil_large_into_small", 2e-2),
    ],
)
def test_an_example_is_certified(name, tolerance, capsys):
    report = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]()
    assert report.within
    assert (report.tolerance, report.relative) == (tolerance, True)
    assert "Memorised: the largest error over all " in capsys.readouterr().out
