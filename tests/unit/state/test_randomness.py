"""What a process that has done nothing yet is asked for first."""

import subprocess
import sys


def test_the_random_states_can_be_had_before_anything_has_drawn():
    code = (
        "from keras_patterns.state.randomness import get_random_state, "
        "set_random_state\nset_random_state(get_random_state())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
