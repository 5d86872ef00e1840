"""kp.tabulate: points, values, its file."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from children import check_end, run
from hypothesis import given
from hypothesis import strategies as st

import keras_patterns as kp

pytestmark = pytest.mark.once

SCRIPT = Path(__file__).parents[2] / "support" / "run_tabulate.py"
QUIET = {"verbose": 0}


def product(point):
    return point[0] * point[1]


def test_a_grid_has_the_points_of_its_axes():
    x, y = kp.tabulate(product, [(0, 1), (2, 4)], (2, 3), **QUIET)
    assert x.tolist() == [[a, b] for a in (0, 1) for b in (2, 3, 4)]
    assert y.tolist() == [a * b for a, b in x]
    assert len(kp.tabulate(product, [(0, 1), (2, 4)], 5, **QUIET)[0]) == 25


@given(st.integers(0, 12), st.integers(1, 30))
def test_each_dimension_of_sobol_is_even(power, dimensions):
    """Of the first 2^n points, each interval of 2^-n holds one."""
    box = [(0, 1)] * dimensions
    found, _ = kp.tabulate(np.sum, box, 2**power, sampling="sobol", **QUIET)
    for column in found.T * 2**power:
        assert sorted(map(int, column)) == list(range(2**power))


def test_a_number_of_points_that_is_no_power_of_2_is_a_part_of_one():
    tables = [
        kp.tabulate(np.sum, [(0, 1)] * 3, count, sampling="sobol", **QUIET)[0] for count in (8, 5)
    ]
    np.testing.assert_array_equal(tables[0][:5], tables[1])


def test_what_sobol_lacks_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match="needs SciPy, which is missing: pip install scipy"):
        kp.tabulate(np.sum, [(0, 1)], 4, sampling="sobol", **QUIET)


@pytest.mark.parametrize("sampling", ["sobol", "random"])
def test_points_are_in_the_box_and_the_same_again(sampling):
    def table():
        return kp.tabulate(product, [(-1, 1), (2, 4)], 64, sampling=sampling, **QUIET)

    x, y = table()
    assert x.shape == (64, 2)
    assert y.shape == (64,)
    assert ((x >= (-1, 2)) & (x <= (1, 4))).all()
    np.testing.assert_array_equal(table()[0], x)


def test_the_seed_is_that_of_random_points():
    one, other = (
        kp.tabulate(product, [(0, 1)] * 2, 4, sampling="random", seed=seed, **QUIET)[0]
        for seed in (0, 1)
    )
    assert not np.array_equal(one, other)


def test_batches_give_the_same_values():
    sizes = []

    def products(points):
        sizes.append(len(points))
        return points[:, 0] * points[:, 1]

    x, y = kp.tabulate(products, [(0, 1), (2, 4)], 5, batch_size=10, **QUIET)
    assert sizes == [10, 10, 5]
    np.testing.assert_array_equal(y, x[:, 0] * x[:, 1])


def test_a_table_in_a_file_is_computed_once():
    calls = []

    def noted(point):
        calls.append(point)
        return np.outer(point, point)

    first = kp.tabulate(noted, [(0, 1), (2, 4)], 3, path="a/table.jsonl", **QUIET)
    assert len(calls) == 9
    again = kp.tabulate(noted, [(0, 1), (2, 4)], 3, path="a/table.jsonl", **QUIET)
    # The first point once more, to see that the function is the same.
    assert len(calls) == 10
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_process_has_lost_no_value():
    """By a real `kill -9`, inside the function, twice."""
    for at in (4, 8):
        check_end(run(Path.cwd(), at, script=SCRIPT), -signal.SIGKILL)
    check_end(run(Path.cwd(), 99, script=SCRIPT), 0)
    calls = Path("calls.txt").read_text(encoding="utf-8").splitlines()
    first, second, third = calls[:5], calls[5:9], calls[9:]
    points = [str([one]) for one in np.linspace(0, 1, 10).tolist()]
    assert first == points[:5]
    # The first point again, then the one that was being computed.
    assert second == [points[0], *points[4:7]]
    assert third == [points[0], *points[6:]]
    x, y = kp.tabulate(lambda p: [p[0] / 3, p[0] ** 2], [(0, 1)], 10, path="table.jsonl", **QUIET)
    np.testing.assert_array_equal(y, np.column_stack([x[:, 0] / 3, x[:, 0] ** 2]))


def test_a_line_that_was_cut_is_computed_again():
    """At each of its bytes, and at each byte of the first line."""
    path, domain = Path("table.jsonl"), [(0.1, 1), (2, 4)]
    expected = kp.tabulate(product, domain, 2, path=path, **QUIET)[1]
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        np.testing.assert_array_equal(
            kp.tabulate(product, domain, 2, path=path, **QUIET)[1], expected
        )
        assert path.read_bytes() == whole


def test_each_changed_byte_is_noticed():
    path = Path("table.jsonl")
    kp.tabulate(product, [(0.1, 1), (2, 4)], 2, path=path, **QUIET)
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(kp.StoreError, match=r"table.jsonl: is no table of these points \("):
            kp.tabulate(product, [(0.1, 1), (2, 4)], 2, path=path, **QUIET)


@pytest.mark.parametrize(
    ("domain", "points", "function", "said"),
    [
        ([(0, 1), (2, 5)], 2, product, "it is of 4 other points of 2 dimensions"),
        ([(0, 1), (2, 4)], 3, product, "it is of 4 other points of 2 dimensions"),
        ([(0, 1), (2, 4)], 2, lambda p: p[0] - p[1], "is of another function: at the first point"),
    ],
)
def test_a_file_of_something_else_is_refused(domain, points, function, said):
    kp.tabulate(product, [(0, 1), (2, 4)], 2, path="table.jsonl", **QUIET)
    before = Path("table.jsonl").read_bytes()
    with pytest.raises(kp.StoreError, match=said):
        kp.tabulate(function, domain, points, path="table.jsonl", **QUIET)
    assert Path("table.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", [b"notes of mine", b"notes\nof mine\n", b"{}\n"])
def test_a_stranger_s_file_stays(content):
    Path("notes.txt").write_bytes(content)
    with pytest.raises(kp.StoreError, match="is no table of these points"):
        kp.tabulate(product, [(0, 1), (2, 4)], 2, path="notes.txt", **QUIET)
    assert Path("notes.txt").read_bytes() == content


def test_one_process_at_a_time():
    def inner(point):
        kp.tabulate(product, [(0, 1), (2, 4)], 2, path="table.jsonl", **QUIET)

    with pytest.raises(kp.StoreInUseError, match="another process computes this table"):
        kp.tabulate(inner, [(0, 1), (2, 4)], 2, path="table.jsonl", **QUIET)


def test_values_before_an_error_of_the_function_are_kept():
    def fails(point):
        if point[0] > 0.5:
            raise OSError("the solver's licence has ended")
        return point[0]

    with pytest.raises(OSError, match="licence"):
        kp.tabulate(fails, [(0, 1)], 5, path="table.jsonl", **QUIET)
    calls = []
    kp.tabulate(lambda p: calls.append(p) or p[0], [(0, 1)], 5, path="table.jsonl", **QUIET)
    assert [one[0] for one in calls] == [0.0, 0.75, 1.0]


def test_progress_is_shown(capsys):
    kp.tabulate(product, [(0, 1), (2, 4)], 2, path="table.jsonl")
    assert "Tabulating: 4/4" in capsys.readouterr().out
    kp.tabulate(product, [(0, 1), (2, 4)], 2, path="table.jsonl")
    assert "tabulate: 4 of 4 values are in table.jsonl." in capsys.readouterr().out


def shrinking(point):
    return np.ones(2 if point[0] else 3)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"function": 3}, TypeError, "`function` must be a function"),
        ({"domain": 3}, TypeError, "`domain` must be the lowest and the highest number"),
        ({"domain": (0, 1)}, TypeError, "`domain` must be the lowest and the highest number"),
        ({"domain": []}, TypeError, "`domain` must be the lowest and the highest number"),
        ({"domain": [(0, np.inf)]}, ValueError, r"`domain\[0\]` must be finite"),
        ({"domain": [(1, 1)]}, ValueError, r"`domain\[0\]\[0\]` must be below"),
        ({"points": 1}, ValueError, "`points` must be at least 2"),
        ({"points": (3, 3)}, ValueError, "`points` must be a number, or one for each of the 1"),
        ({"points": 1.5}, TypeError, "`points` must be a whole number"),
        ({"sampling": "lattice"}, ValueError, "`sampling` must be one of 'grid', 'sobol'"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"function": lambda p: p[0] * np.nan}, ValueError, r"is not finite at \[0.0\]"),
        ({"function": shrinking}, ValueError, "of shape .2,. at .1.0., and of shape .3,. before"),
        ({"function": np.sum, "batch_size": 2}, TypeError, "iter"),
        ({"function": lambda p: p[:1], "batch_size": 2}, ValueError, "2 points, and gave 1 values"),
    ],
)
def test_arguments_are_checked(changed, error, said):
    how = {"function": lambda p: p[0], "domain": [(0, 1)], "points": 2, **changed}
    with pytest.raises(error, match=said):
        kp.tabulate(**how, **QUIET)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_function_may_use_its_arrays_again(tmp_path, batch_size):
    """It gives the same work array each time, and changes what it is given."""
    work = np.empty((2, 2))

    def function(points):
        points *= 2
        found = work[: len(np.atleast_2d(points))]
        found[:] = np.hstack([np.atleast_2d(points), np.atleast_2d(points) ** 2])
        return found if points.ndim > 1 else found[0]

    for path in (None, tmp_path / "table", tmp_path / "table"):
        x, y = kp.tabulate(function, [(0, 3)], 4, path=path, batch_size=batch_size, **QUIET)
        assert x[:, 0].tolist() == [0, 1, 2, 3]
        assert y.tolist() == [[0, 0], [2, 4], [4, 16], [6, 36]]


@pytest.mark.parametrize("value", [1j, "1", None])
def test_what_is_no_real_number_is_refused(value):
    with pytest.raises(TypeError, match=r"at \[0.0\].*real numbers"):
        kp.tabulate(lambda point: value, [(0, 3)], 4, **QUIET)


def test_values_without_numbers_are_read_again(tmp_path):
    for _ in range(2):
        _, y = kp.tabulate(lambda point: [], [(0, 3)], np.array([4]), path=tmp_path / "t", **QUIET)
        assert y.shape == (4, 0)
