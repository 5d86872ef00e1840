"""The tests of digits.py, the cheapest first."""

import os
from pathlib import Path

import digits
import pytest

from keras_patterns.testing import (
    assert_beats_baseline,
    assert_no_leak_across_batch,
    assert_no_regression,
    assert_overfits_batch,
    assert_preflight_clean,
    assert_trains_every_variable,
)

RECORD = Path(__file__).with_name("digits_score.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits")
    digits.write_files(path)
    return path


@pytest.fixture(scope="module")
def data(folder):
    return digits.read_folder(folder / "train")


@pytest.fixture(scope="module")
def trained(folder):
    return digits.train(folder)


def test_an_image_comes_back_as_it_was_written(folder):
    from sklearn.datasets import load_digits

    first = digits.read_image(folder / "train" / "0" / "0000.pgm")
    assert (first * 16 == load_digits().images[0]).all()


def test_an_image_that_is_cut_short_is_refused(tmp_path):
    (tmp_path / "cut.pgm").write_text("P2\n8 8\n16\n1 2 3\n")
    with pytest.raises(ValueError, match="no whole image"):
        digits.read_image(tmp_path / "cut.pgm")


def test_nothing_in_model_or_data_keeps_it_from_learning(folder, data):
    assert_preflight_clean(
        digits.make_model(), *data, validation_data=digits.read_folder(folder / "test")
    )


def test_every_weight_is_trained(data):
    assert_trains_every_variable(digits.make_model(), *data)


def test_no_image_changes_the_answer_for_another(data):
    assert_no_leak_across_batch(digits.make_model(), data[0])


def test_it_memorises_a_small_batch(data):
    assert_overfits_batch(digits.make_model, *data, steps=100)


def test_it_is_better_than_a_linear_model_and_the_nearest_neighbours(folder, data, trained):
    held_out = digits.read_folder(folder / "test")
    assert_beats_baseline(trained, *data, validation_data=held_out, margin=0.005)


def test_the_whole_pipeline_is_as_good_as_it_was(folder, trained):
    # Backends and processors round differently: six of 360 images may be named otherwise.
    score = digits.accuracy(trained, folder)
    assert_no_regression(score, RECORD, tolerance=6 / 360, record="RECORD_SCORES" in os.environ)
