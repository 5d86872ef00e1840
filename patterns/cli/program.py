"""The command `keras-patterns`: its arguments and its exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .._util.text import write_line
from ..storage import StoreError
from . import looking
from .script import NoCallError, examine

_EXAMPLES = """examples:
  keras-patterns list runs/digits
  keras-patterns verify runs/digits
  keras-patterns diff runs/digits:900 runs/other:900
  keras-patterns export runs/digits digits.safetensors --step 900
  keras-patterns report runs/digits -o report.html
  keras-patterns preflight train.py -- --epochs 3
  keras-patterns env
  keras-patterns demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments. Defaults to those of the process.

    Returns:
        The exit code: 0 if all is well; 1 if `verify` found damage, `diff` or `demo` a
        difference, or `preflight` an error; 2 if the command failed.
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    given, of_script = _split(sys.argv[1:] if argv is None else argv)
    arguments, unknown = parser.parse_known_args(given, argparse.Namespace(of_script=of_script))
    if unknown:
        hint = "; what the script is given stands behind --" if given[0] == "preflight" else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        return arguments.command(arguments)
    except BrokenPipeError:
        # Whoever reads has seen enough; Python would say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except (StoreError, NoCallError, OSError, ImportError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        write_line("keras-patterns: interrupted.", sys.stderr)
        return 130


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cuts off what a script is to be given: argparse finds options of its own behind `--`."""
    given = list(argv)
    if given[:1] != ["preflight"] or "--" not in given:
        return given, []
    end = given.index("--")
    return given[:end], given[end + 1 :]


def _fail(error: Exception) -> int:
    text = str(error).removeprefix("keras-patterns: ")
    write_line(f"keras-patterns: error: {text}", sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "keras-patterns",
        description="Looks at the checkpoints of kp.Checkpoint, which it never changes, and at "
        "scripts before they train.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = partial(_add_command, parser.add_subparsers(required=True, metavar="COMMAND"))
    list_ = add("list", looking.list_, "show the checkpoints of a folder", "runs/digits")
    text = "read every byte; exit code 1 if any is damaged"
    verify = add("verify", looking.verify, text, "runs/digits")
    text = "compare two checkpoints; exit code 1 if they differ"
    diff = add("diff", looking.diff, text, "a:900 b:900")
    text = "write the weights into one file"
    export = add("export", looking.export, text, "a a.safetensors --step 900")
    text = "write one HTML file for people: curves, events, checkpoints, settings"
    report = add("report", _report, text, "runs/digits runs/other -o report.html")
    text = "run a script up to its first fit, and look for faults; exit code 1 at an error"
    script = add("preflight", examine, text, "train.py -- --epochs 3")
    text = "show versions, device and settings, for a report of a fault"
    env = add("env", _env, text, "--json")
    text = "kill a training run twice, resume it, and compare"
    show = add("demo", _demo, text, "--out pictures")
    for of_folder in (list_, verify, export):
        of_folder("directory", metavar="DIR", help="the folder that kp.Checkpoint was given")
    for name in ("first", "second"):
        text = "a folder, and a step in it; without one the newest checkpoint"
        diff(name, metavar="DIR[:STEP]", help=text)
    text = "the new .safetensors file; an existing one is never overwritten"
    export("path", metavar="PATH", help=text)
    export("--step", type=int, help="of the checkpoint; without it the newest sound one")
    text = "the folder that kp.Checkpoint was given; several stand side by side"
    report("directories", metavar="DIR", nargs="+", help=text)
    text = "the file; an older report is replaced, another file never (%(default)s)"
    report("-o", "--out", metavar="FILE", default="report.html", help=text)
    text = "write it again and again until the runs end; the page reloads itself"
    report("--watch", action="store_true", help=text)
    text = "seconds between two writings (%(default)g)"
    report("--every", type=_seconds, default=5.0, metavar="SECONDS", help=text)
    text = "calls kp.fit or model.fit; arguments of its own stand after --"
    script("script", metavar="SCRIPT", help=text)
    text = "a kind of finding to leave out; may be given several times"
    script("--skip", metavar="KIND", action="append", default=[], help=text)
    for with_json in (list_, verify, diff, script, env):
        with_json("--json", action="store_true", help="print one JSON object for other programs")
    show("--out", default="keras-patterns-demo", help="the folder for the picture (%(default)s)")
    show("--keep", action="store_true", help="keep the checkpoints there too")
    show("--quick", action="store_true", help=argparse.SUPPRESS)
    return parser


def _add_command(
    commands: Any, name: str, command: Callable[..., int], text: str, example: str
) -> Any:
    """Adds a command; returns what adds an argument to it."""
    description = f"{text[0].upper()}{text[1:]}."
    epilog = f"example: keras-patterns {name} {example}"
    parser = commands.add_parser(name, help=text, description=description, epilog=epilog)
    parser.set_defaults(command=command)
    return parser.add_argument


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answers the shell that asks what could come next, and ends the process."""
    # Imported here, since only people who want it have it.
    import argcomplete

    argcomplete.autocomplete(parser)


def _seconds(given: str) -> float:
    """An argument that is a number of seconds."""
    seconds = float(given)
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"from 0.1 to 86400 seconds, not {given}")
    return seconds


def _report(arguments: argparse.Namespace) -> int:
    # Imported here: the other commands need nothing of it.
    from .reporting.command import report

    return report(arguments)


def _env(arguments: argparse.Namespace) -> int:
    from . import environment

    return environment.show(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    # It trains, so this is where Keras and its backend are loaded.
    from keras_patterns.backends import import_keras

    import_keras()
    from . import demo

    size = {"epochs": 2, "kills": 1, "seeds": 1} if arguments.quick else {}
    try:
        return demo.run(arguments.out, arguments.keep, **size)
    except demo.TrainingFailedError as error:
        return _fail(error)
