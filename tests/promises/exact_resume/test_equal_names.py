"""Exact resume: neither equal paths of variables nor other automatic names matter."""

import keras
from models import CASES, two_backbones

import keras_patterns as kp
from keras_patterns.testing import assert_resumes_exactly, assert_same_state, run_state


def test_variables_of_equal_paths_have_keys_of_their_own():
    paths = [variable.path for variable in two_backbones().trainable_variables]
    assert len(set(paths)) < len(paths)
    assert_resumes_exactly(two_backbones, **CASES["two backbones"].arguments, kill_at=3)


def test_automatic_names_make_no_difference():
    """The first model's last layer is called as the layers in the backbones, the second one's is
    not.
    """

    def trained():
        keras.utils.set_random_seed(0)
        model = two_backbones()
        return model, run_state(
            model, kp.fit(model, **CASES["two backbones"].arguments, seed=0, verbose=0)
        )

    (first, expected), (second, found) = trained(), trained()
    assert [v.path for v in first.trainable_variables] != [
        v.path for v in second.trainable_variables
    ]
    assert_same_state(expected, found)
