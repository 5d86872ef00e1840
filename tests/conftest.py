"""What every test gets: an empty working directory, the same seeds, and fresh automatic names."""

import gc
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# The files that take longest, in the session that is named or on each backend. They are begun
# first, lest one process is left alone with one of them.
LONGEST = (
    # cross
    "promises/any_backend/test_continuing.py",
    "unit/testing/test_on_backends.py",
    "promises/any_backend/test_loading.py",
    "promises/any_backend/test_thawing.py",
    "promises/any_backend/test_findings.py",
    # tests
    "promises/exact_resume/test_exact_resume.py",
    "unit/run/test_fuse.py",
    "promises/exact_resume/test_kills.py",
    "unit/cli/demo/test_demo.py",
    "promises/exact_resume/test_controls.py",
    "conformance/test_debugging.py",
    "conformance/test_cases.py",
    "unit/finder/test_finder.py",
    "unit/run/test_fused_validation.py",
    "unit/memorization/test_examples.py",
    "conformance/test_wrappers.py",
    "promises/exact_resume/test_loaders.py",
    "promises/exact_resume/test_loader_examples.py",
    "unit/cli/demo/test_transfer.py",
    "unit/debugging/test_preflight.py",
    "unit/transfer/test_features.py",
    "unit/guard/test_guard.py",
    "project/test_readme.py",
    "conformance/test_batch_size.py",
)


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path):
    """What a test writes by a relative path goes to its own folder, and the checkout is not
    importable.
    """
    # Not by the test's own `monkeypatch`, whose `undo` would lead back to the checkout.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Seed what is loaded, and let Keras's automatic names begin again. Tests that load no Keras do
    not wait for it.
    """
    random.seed(0)
    if "keras" in sys.modules:
        import keras

        # Without its garbage collection, which takes longer than most tests.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def closed_figures():
    """Close what a test drew: pyplot keeps it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True, scope="module")
def unseen_leftovers():
    """What outlives its file, as the graphs of all steps that TensorFlow has traced do, is not
    looked through for garbage in all later ones.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def numpy_weights(monkeypatch):
    """Initial weights of the usual size that NumPy draws: for a large model JAX would compile a
    program for each shape.
    """
    import keras
    import numpy as np

    rng = np.random.default_rng(0)

    def drawn(self, shape, dtype=None, **_):
        fan_in = max(np.prod(shape[:-1]), 1)
        return rng.standard_normal(shape, "float32") / np.sqrt(fan_in, dtype="float32")

    for name in ("VarianceScaling", "TruncatedNormal", "RandomNormal"):
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", drawn)
    for name, full in (("Zeros", np.zeros), ("Ones", np.ones)):
        monkeypatch.setattr(
            getattr(keras.initializers, name),
            "__call__",
            lambda self, shape, dtype=None, full=full, **_: full(shape, dtype or "float32"),
        )


@pytest.fixture
def ray_at_home(monkeypatch):
    """Ray writes into a folder of its own, whose name is short enough for its sockets."""
    pytest.importorskip("ray", reason="the group test-ray is not installed")
    with tempfile.TemporaryDirectory(prefix="kp-", ignore_cleanup_errors=True) as folder:
        for name, value in (
            ("RAY_TMPDIR", folder),
            ("RAY_AUTH_MODE", "disabled"),
            ("RAY_USAGE_STATS_ENABLED", "0"),
            # Else the actors come after all that runs beside the tests.
            ("RAY_worker_niceness", "0"),
        ):
            monkeypatch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def backend() -> str:
    """The name of the backend under test: jax, tensorflow or torch."""
    return os.environ["KERAS_BACKEND"]


def pytest_configure():
    """Examples of Hypothesis compile models at times: only pytest's timeout limits them."""
    assert all((TESTS / one).exists() for one in LONGEST), "a file of LONGEST is not there"
    try:
        from hypothesis import settings
    except ModuleNotFoundError:  # the layout session has no need of it
        return
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of the parameters of a test that is marked as `sampled(every, session, *backends)`, every
    n-th one is left to the ordinary run on backends that trace or compile each model anew; that
    session runs the others. The longest files come first.
    """
    seen = Counter()
    for item in items:
        for mark in item.iter_markers("sampled"):
            every, session, *backends = mark.args
            if os.environ.get("KERAS_BACKEND") not in backends:
                continue
            if seen[item.function] % every:
                item.add_marker(session)
            seen[item.function] += 1
    items.sort(key=_rank)


def _rank(item):
    """The place of its file among those that take longest, or the one after them."""
    return next((n for n, one in enumerate(LONGEST) if item.path == TESTS / one), len(LONGEST))


def pytest_collection_finish():
    """Modules stay: to look for garbage in those of a framework at each collection takes a tenth of
    all the time.
    """
    gc.collect()
    gc.freeze()
