"""What the sources may import and call, and how long they may be, read from their syntax trees.
Nothing is imported.
"""

import ast
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
    {"backends", "data", "schedules", "storage"},
    {"select", "state"},
    {"optimizers"},
    {"checkpoint"},
    {"run"},
    {"finder", "guard", "plots", "stopping"},
    {"testing", "transfer"},
    {""},
    {"demo"},
    {"cli"},
    {"__main__"},
)
# What is reached through its package alone.
PATTERNS = {"finder", "guard", "plots", "schedules", "stopping", "transfer"}
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}

DEPENDENCIES = {
    requirement.split(">=")[0].replace("-", "_")
    for requirement in PROJECT["project"]["dependencies"]
}
FRAMEWORKS = {"jax", "jaxlib", "tensorflow", "torch"}
# Imported inside functions only, so that the core does without them.
OPTIONAL = {"matplotlib", "sklearn", "rich"}

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

LONGEST_MODULE = 400
LONGEST_FUNCTION = 30


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

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def outside_functions(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from outside_functions(child)


MODULES = [
    Module(path)
    for folder in ("patterns", "backends")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
CORE = [module for module in MODULES if module.unit != "backends"]


def unit_of(name: str) -> str:
    """The unit that an absolute name of ours reaches: keras_patterns.storage.files -> store."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else ""


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
        own = {module.parts[-1].removeprefix("_")} | (
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


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_modules_are_short(module):
    assert len(module.lines) <= LONGEST_MODULE, f"{module.path} has {len(module.lines)} lines"


def test_functions_are_short():
    functions = [(module, function) for module in MODULES for function in module.functions()]
    lengths = sorted(
        (length(function), f"{module.path}: {function.name}") for module, function in functions
    )
    ninth_decile = lengths[int(0.9 * len(lengths)) :]
    too_long = [name for lines, name in ninth_decile if lines > LONGEST_FUNCTION]
    assert len(too_long) < max(1, len(ninth_decile)), (
        f"one function in ten is longer than {LONGEST_FUNCTION}: {too_long}"
    )


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - (docstring.end_lineno - docstring.lineno + 1)
