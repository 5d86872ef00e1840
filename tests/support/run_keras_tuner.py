"""Runs the example of KerasTuner in the folder of the process, and may be killed in it.

python run_keras_tuner.py [AFTER]

It prints what each trial ended with, as JSON: {number: [value, parameters]}.
"""

import json
import runpy
import sys

from places import ROOT
from run_tuning import SendAfter

search = runpy.run_path(str(ROOT / "examples" / "hyperband_keras_tuner.py"))["search"]

if __name__ == "__main__":
    SendAfter.left = int(sys.argv[1]) if len(sys.argv) > 1 else None
    tuner = search("found", callbacks=[SendAfter()])
    print(
        json.dumps(
            {
                number: [trial.score, trial.hyperparameters.values]
                for number, trial in sorted(tuner.oracle.trials.items())
            }
        )
    )
