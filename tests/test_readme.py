"""The README's examples run, and the first goes on when it is run again."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def examples():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)


def test_a_rate_is_found_and_trained_with(capsys):
    first, second = examples()
    names = {}
    exec(compile(first.split("history =")[0], str(README), "exec"), names)
    exec(compile(second, str(README), "exec"), names)
    assert "LearningRateSweep: " in capsys.readouterr().out
    rates = names["model"].optimizer.get_config()["learning_rate"]["config"]
    assert rates["maximal_learning_rate"] == names["sweep"].suggest()


def test_the_example_runs_and_goes_on(capsys):
    example, _ = examples()
    code = compile(example.replace("1_000", "100"), str(README), "exec")
    first, second = {}, {}
    exec(code, first)
    said = capsys.readouterr().out
    assert "starting from step 0" in said
    assert "was drawn for the order of the data" in said
    exec(code, second)
    assert "is finished at step 100 of 100" in capsys.readouterr().out
    assert len(first["history"].history["val_accuracy"]) == 5
    assert second["history"].history == first["history"].history
