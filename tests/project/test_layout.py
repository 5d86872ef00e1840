"""The rooms of the package and the limits of its modules, read from the syntax trees. Nothing is
imported.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Each module or folder of the package, from the ground up: one imports only what stands in a line
# above its own. "" is the package itself, `import keras_patterns`.
LAYERS = (
    {"_keras", "_util"},
    {"backends"},
    {"data", "schedules", "storage"},
    {"state"},
    {"optimizers"},
    {"checkpoint", "debugging"},
    {"run"},
    {"finder", "guard", "memorization", "plots", "stopping", "trackers", "weights"},
    {"testing", "transfer", "tuning"},
    {""},
    {"cli"},
    {"__main__"},
)
# What is reached through its package alone.
PATTERNS = {
    "debugging",
    "finder",
    "guard",
    "memorization",
    "plots",
    "schedules",
    "stopping",
    "trackers",
    "transfer",
    "tuning",
    "weights",
}
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}

DEPENDENCIES = {
    requirement.split(">=")[0].replace("-", "_")
    for requirement in PROJECT["project"]["dependencies"]
}
FRAMEWORKS = {"jax", "jaxlib", "tensorflow", "torch"}
# Imported inside functions only, so that the core does without them.
OPTIONAL = {
    "matplotlib",
    "pandas",
    "sklearn",
    "scipy",
    "rich",
    "argcomplete",
    "IPython",
    "optuna",
    "ray",
    "tensorboardX",
    "wandb",
    "mlflow",
}

CODE_IN_FILES = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
}
RUNS_CODE = {"eval", "exec", "compile", "__import__"}

# A module of more lines is named in the output, no more.
LONG_MODULE = 400
MOST_ROOMS = 21
MOST_IMPORTS = 12
MOST_ATTRIBUTES = 8
LONGEST_FUNCTION = 60
NINTH_DECILE = 30
# The one module of run/ that puts its parts together, which may import as many as it needs.
WIRING = "patterns/run/opening.py"
# What run/ knows nothing of.
ABOVE_RUN = {
    "finder",
    "guard",
    "memorization",
    "plots",
    "stopping",
    "testing",
    "trackers",
    "transfer",
    "tuning",
    "weights",
}
# Words that had a better one: no identifier of patterns/ may be one of these.
RETIRED = {
    *("DrivenCallback", "EpochRun", "EpochGuard", "Saver", "Shaping", "Beginning", "HeldState"),
    *("untouched", "retrain", "retrained", "Recorded", "Enough", "SETTLING", "driven", "begun"),
    *("rewinds", "roll_back", "Places", "note_left", "forget_left"),
}
BEGINS_BADLY = re.compile(r"(What|Whether|How|Has)\b")

# Where a rule does not hold yet. To be emptied: an entry that is no longer needed fails its test.
KNOWN: dict[str, set[str]] = {
    "circle": set(),
    "imports": set(),
    "attributes": {"patterns/stopping/early_stopping.py: EarlyStopping"},
    "long function": set(),
    "name of a function": set(),
    "docstring": set(),
}


class Module:
    """One source file, the name it is imported by, and its syntax tree."""

    def __init__(self, path: Path):
        self.path = path.relative_to(ROOT).as_posix()
        self.lines = path.read_text(encoding="utf-8").splitlines()
        self.tree = ast.parse("\n".join(self.lines))
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[1:] if parts[0] == "patterns" else parts
        self.parts = ("keras_patterns", *(part for part in parts if part != "__init__"))
        self.package = self.parts if path.stem == "__init__" else self.parts[:-1]

    @property
    def name(self) -> str:
        return ".".join(self.parts)

    @property
    def unit(self) -> str:
        return self.parts[1] if len(self.parts) > 1 else ""

    def imports(self, tree: ast.AST | None = None) -> list[str]:
        """Absolute dotted names, `from a import b` as `a.b`."""
        names = []
        for node in ast.walk(tree or self.tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                base = self.package[: len(self.package) - node.level + 1] if node.level else ()
                base = [*base, *(node.module.split(".") if node.module else [])]
                names += [".".join([*base, alias.name]) for alias in node.names]
        return names

    def imports_when_loaded(self) -> list[str]:
        """The imports outside functions and outside `if TYPE_CHECKING:`."""
        return [name for node in outside_functions(self.tree) for name in self.imports(node)]

    def imports_of_ours(self, tree: ast.AST | None = None) -> set[str]:
        """Dotted names of the modules of ours that are imported; a package only for what its
        `__init__` gives.
        """
        found = {module_of(name) for name in self.imports(tree)}
        return found - {"", self.name}

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def outside_functions(node: ast.AST, type_checking: bool = False):
    """The import statements outside functions, those under `if TYPE_CHECKING:` only if asked
    for.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from outside_functions(child, True) if type_checking else ()
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from outside_functions(child, type_checking)


MODULES = [
    Module(path)
    for folder in ("patterns", "backends")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
BY_NAME = {module.name: module for module in MODULES}
CORE = [module for module in MODULES if module.unit != "backends"]


def unit_of(name: str) -> str:
    """The unit that an absolute name of ours reaches: keras_patterns.storage.files -> storage."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else ""


def module_of(name: str) -> str:
    """The module of ours that an absolute name reaches, "" if none: keras_patterns.storage.Tensor
    -> keras_patterns.storage.
    """
    parts = name.split(".")
    while parts and ".".join(parts) not in BY_NAME:
        parts.pop()
    return ".".join(parts)


def check(rule: str, offenders: dict[str, str]) -> None:
    """Asserts that a rule is broken exactly where KNOWN says so.

    Args:
        rule: Its key in KNOWN.
        offenders: Where it is broken, each with what is to be said of it.
    """
    known = KNOWN.get(rule, set())
    new = [f"{place}: {said}" for place, said in offenders.items() if place not in known]
    assert not new, "\n".join(new)
    assert not known - offenders.keys(), "no longer needed in KNOWN: remove it"


def calls(module: Module) -> list[ast.Call]:
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]


def test_the_packages_named_in_pyproject_are_the_folders():
    folders = {".".join(module.package) for module in MODULES}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_every_folder_with_modules_is_a_package():
    for module in MODULES:
        folder = (ROOT / module.path).parent
        assert (folder / "__init__.py").exists(), f"{folder} has no __init__.py"


def test_every_module_has_a_layer():
    for module in MODULES:
        assert module.unit in LEVEL, (
            f"{module.path}: give {module.unit!r} a line in LAYERS of {Path(__file__).name}"
        )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_imports_point_down(module):
    for name in module.imports():
        if name.split(".")[0] != "keras_patterns" or unit_of(name) == module.unit:
            continue
        assert LEVEL[unit_of(name)] < LEVEL[module.unit], (
            f"{module.path} imports {name}, which does not lie below it"
        )


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.path)
def test_no_pattern_imports_the_insides_of_another(module):
    for name in module.imports():
        parts = name.split(".")
        if len(parts) > 2 and parts[1] in PATTERNS and parts[1] != module.unit:
            assert not (ROOT / "patterns" / parts[1] / f"{parts[2]}.py").exists(), (
                f"{module.path} imports {name}"
            )


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.path)
def test_the_core_imports_keras_and_its_dependencies_only(module):
    allowed = DEPENDENCIES | set(sys.stdlib_module_names) | {"keras_patterns"}
    loaded = {name.split(".")[0] for name in module.imports_when_loaded()}
    assert loaded <= allowed, f"{module.path} imports {sorted(loaded - allowed)} when it is loaded"
    anywhere = {name.split(".")[0] for name in module.imports()}
    assert anywhere <= allowed | OPTIONAL, (
        f"{module.path} imports {sorted(anywhere - allowed - OPTIONAL)}"
    )


def test_each_adapter_imports_its_own_framework_only():
    for module in MODULES:
        frameworks = {name.split(".")[0] for name in module.imports()} & FRAMEWORKS
        own = {module.parts[-1].removeprefix("_").split("_")[0]} | (
            {"jaxlib"} if module.parts[-1] == "_jax" else set()
        )
        assert frameworks <= own, f"{module.path} imports {sorted(frameworks)}"


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.path)
def test_private_keras_has_one_place(module):
    reached = module.imports() + [
        ast.unparse(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)
    ]
    private = [name for name in reached if name.startswith("keras.src")]
    assert not private or module.unit == "_keras", (
        f"{module.path} uses {private[0]}; that belongs in patterns/_keras/"
    )


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.path)
def test_the_core_never_asks_which_backend_runs(module):
    for call in calls(module):
        name = ast.unparse(call.func)
        assert name.split(".")[-1] != "backend", (
            f"{module.path}:{call.lineno} asks {name}(); ask the adapter for a capability"
        )
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            constants = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            assert not constants & FRAMEWORKS, (
                f"{module.path}:{node.lineno} compares with a backend's name"
            )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_no_file_can_run_code(module):
    imported = {part for name in module.imports() for part in name.split(".")}
    assert not imported & CODE_IN_FILES, f"{module.path} imports {sorted(imported & CODE_IN_FILES)}"
    for call in calls(module):
        where = f"{module.path}:{call.lineno} calls {ast.unparse(call.func)}"
        assert not (isinstance(call.func, ast.Name) and call.func.id in RUNS_CODE), where
        assert ast.unparse(call.func) not in {"torch.load", "torch.save"}, f"{where}, which pickles"
        for keyword in call.keywords:
            if keyword.arg == "allow_pickle":
                assert ast.unparse(keyword.value) == "False", f"{where} with allow_pickle"
            if keyword.arg == "safe_mode":
                assert ast.unparse(keyword.value) == "True", f"{where} without safe_mode"


def test_the_rooms_are_few():
    rooms = {module.unit for module in CORE} - {"", "__main__"}
    assert len(rooms) <= MOST_ROOMS, f"{len(rooms)} rooms: {sorted(rooms)}"


def test_no_module_of_the_run_knows_a_pattern():
    check(
        "run",
        {
            module.path: f"imports {name}"
            for module in CORE
            if module.unit == "run"
            for name in module.imports()
            if name.startswith("keras_patterns") and unit_of(name) in ABOVE_RUN
        },
    )


def test_no_modules_import_each_other_in_a_circle():
    """When they are loaded or where their types are checked. Each circle is named by its
    modules.
    """
    arrows = {
        module.name: module.imports_of_ours(
            ast.Module([*outside_functions(module.tree, type_checking=True)], [])
        )
        for module in MODULES
    }
    reached = {name: reached_from(name, arrows) for name in arrows}
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in arrows
        if name in reached[name]
    }
    places = [
        ", ".join(sorted("/".join(name.split(".")[1:]) for name in circle)) for circle in circles
    ]
    check("circle", dict.fromkeys(places, "each imports the next"))


def reached_from(name: str, arrows: dict[str, set[str]]) -> set[str]:
    found, waiting = set(), list(arrows[name])
    while waiting:
        if (other := waiting.pop()) not in found:
            found.add(other)
            waiting += arrows[other]
    return found


def test_a_module_imports_few_others():
    """Everywhere in it, in functions too. The `__init__` of a room gathers what it gives."""
    counts = {
        module.path: len(module.imports_of_ours())
        for module in MODULES
        if not module.path.endswith("__init__.py") and module.path != WIRING
    }
    check(
        "imports",
        {
            path: f"imports {count} modules of ours, at most {MOST_IMPORTS} are allowed"
            for path, count in counts.items()
            if count > MOST_IMPORTS
        },
    )


def test_objects_have_few_attributes_that_change():
    """Counted are the names that a class's own methods, `__init__` and `__post_init__` apart,
    assign to, augment or delete on `self`: by `=`, `+=`, `for`, `with` or `del`, and in functions
    inside the methods too. Not counted are items of a container (`self.x[0] = 1`), `setattr`, and
    what the classes above it assign.
    """
    changed = {
        f"{module.path}: {node.name}": attributes_that_change(node)
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    check(
        "attributes",
        {
            place: f"{len(names)} attributes change, at most {MOST_ATTRIBUTES} may: {sorted(names)}"
            for place, names in changed.items()
            if len(names) > MOST_ATTRIBUTES
        },
    )


def attributes_that_change(kind: ast.ClassDef) -> set[str]:
    return {
        node.attr
        for method in kind.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and method.name not in ("__init__", "__post_init__")
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and not isinstance(node.ctx, ast.Load)
        and ast.unparse(node.value) == "self"
    }


def test_functions_are_short():
    lengths = {
        f"{module.path}: {function.name}": length(function)
        for module in MODULES
        for function in module.functions()
    }
    check(
        "long function",
        {
            place: f"{lines} lines, at most {LONGEST_FUNCTION} are allowed"
            for place, lines in lengths.items()
            if lines > LONGEST_FUNCTION
        },
    )
    ninth_decile = sorted(lengths.values())[int(0.9 * len(lengths))]
    assert ninth_decile <= NINTH_DECILE, "one function in ten is longer"


def test_long_modules_are_named(capsys):
    """A hint: a module is one subject, however long."""
    with capsys.disabled():
        for module in MODULES:
            if len(module.lines) > LONG_MODULE:
                print(f"\n{module.path} has {len(module.lines)} lines: is it one subject?")


def test_no_retired_word_is_back():
    fields = ("id", "attr", "name", "arg", "asname")
    for module in CORE:
        used = {
            part
            for node in ast.walk(module.tree)
            for field in fields
            for part in str(getattr(node, field, "")).split(".")
        } | set(module.parts)
        assert not used & RETIRED, f"{module.path}: {sorted(used & RETIRED)}"


def test_docstrings_are_sentences():
    """One that begins with What, Whether, How or Has does not read alone."""
    check(
        "docstring",
        {
            module.path: repr(docstring.splitlines()[0])
            for module in MODULES
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and BEGINS_BADLY.match(docstring := ast.get_docstring(node) or "")
        },
    )


def test_no_module_has_the_name_of_a_public_function():
    """Importing it would put the module in the function's place."""
    package = BY_NAME["keras_patterns"]
    modules = {
        alias.name
        for node in ast.walk(package.tree)
        if isinstance(node, ast.ImportFrom) and node.module is None
        for alias in node.names
    }
    (names,) = (
        ast.literal_eval(node.value)
        for node in package.tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    check(
        "name of a function",
        {
            module.path: "a public function has this name"
            for module in MODULES
            if module.parts[-1] in set(names) - modules
        },
    )


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def test_every_file_that_is_no_module_is_in_the_wheel():
    """setuptools leaves out what package-data does not name."""
    data = {
        path
        for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in (ROOT / "patterns").joinpath(*package.split(".")[1:]).glob(pattern)
    }
    others = {
        path
        for folder in ("patterns", "backends")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data == others
