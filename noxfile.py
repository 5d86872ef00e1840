"""The project's commands: `nox` checks everything, `nox -s NAME` does one thing, `nox -l` lists
them.
"""

import shutil
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
SCRATCH = tempfile.TemporaryDirectory(prefix="keras-patterns-")

# The extra that installs each backend; tensorflow-cpu is the small build of TensorFlow.
EXTRAS = {"jax": "jax", "tensorflow": "tensorflow-cpu", "torch": "torch"}
# Tests that read the sources alone.
FROM_SOURCES = tuple(f"tests/project/test_{name}.py" for name in ("layout", "promises", "walk"))
TESTS = PROJECT["tool"]["pytest"]["ini_options"]["testpaths"]
# What pyproject.toml leaves out of every run that does not ask for it.
ADDOPTS = PROJECT["tool"]["pytest"]["ini_options"]["addopts"]
DESELECTED = ADDOPTS[ADDOPTS.index("-m") + 1]
# Two processes take a file each at a time, so that no file's fixtures are made twice, in the order
# of tests/conftest.py: the longest ones first.
SPREAD = ("--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "types", "layout", "tests", "cross"]

each_backend = nox.parametrize("backend", list(EXTRAS), ids=list(EXTRAS))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Type hints, read from the installed package."""
    install_package(session)
    install(session, *group("types"))
    session.run("mypy", *session.posargs)


@nox.session
def layout(session: nox.Session) -> None:
    """The rooms of the package and the table of promises, read from the sources."""
    install(session, *group("layout"))
    session.run("pytest", *FROM_SOURCES, *session.posargs)


@nox.session
@each_backend
def tests(session: nox.Session, backend: str) -> None:
    """All tests but those of the sessions layout and cross, and the docstrings' examples, with one
    backend installed. What no backend touches is tested with JAX alone.
    """
    install_package(session, EXTRAS[backend])
    install(session, *group("test"), *(group("test-jax") if backend == "jax" else ()))
    run_tests(session, backend)


@nox.session
def cross(session: nox.Session) -> None:
    """What concerns several backends, with all three installed."""
    install_package(session, *EXTRAS.values())
    install(session, *group("test"))
    chosen = session.posargs or ["tests", *SPREAD]
    run_pytest(session, "jax", "-m", "cross and not gallery", *chosen)


@nox.session
def gallery_on_each_backend(session: nox.Session) -> None:
    """A preflight of every program of benchmarks/model_faults finds the same on each backend."""
    install_package(session, *EXTRAS.values())
    install(session, *group("test"))
    run_pytest(session, "jax", "tests/promises", "-m", "cross and gallery", "--timeout=0")


@nox.session
def lowest(session: nox.Session) -> None:
    """The tests with the lowest versions that pyproject.toml admits, on JAX."""
    bounds = [requirement.replace(">=", "==") for requirement in PROJECT["project"]["dependencies"]]
    session.install(*bounds, *pinned("jax"), *pinned(*group("test"), *group("test-jax")))
    session.install("--force-reinstall", "--no-deps", wheel(session))
    run_tests(session, "jax")


@nox.session
@each_backend
def storm(session: nox.Session, backend: str) -> None:
    """Kills at random instants of saving, by the hundred."""
    run_marked(session, backend, "storm", "--timeout=0")


@nox.session
@each_backend
def syscalls(session: nox.Session, backend: str) -> None:
    """Saves and resumes in which each call to the system fails in turn, and a thousand rounds of
    readers beside a run.
    """
    once = "syscalls" if backend == "jax" else "syscalls and not once"
    run_marked(session, backend, once, "--timeout=0")


@nox.session
@each_backend
def every_step(session: nox.Session, backend: str) -> None:
    """Exact resume from a kill at every step, each in fresh processes."""
    run_marked(session, backend, "every_step", "--timeout=0")


@nox.session
@each_backend
def loaders(session: nox.Session, backend: str) -> None:
    """Exact resume of every kind of data, each killed and taken up in fresh processes. Loaders of
    all libraries are read on each backend.
    """
    install_package(session, *EXTRAS.values())
    install(session, *group("test"), *group("test-loaders"))
    run_pytest(session, backend, "tests", "-m", "loaders", "--timeout=0", *session.posargs)


@nox.session
@each_backend
def fused(session: nox.Session, backend: str) -> None:
    """Every model of the table, trained in blocks and one step at a time, to the same bits."""
    run_marked(session, backend, "fused", "--timeout=0")


@nox.session
@each_backend
def gallery(session: nox.Session, backend: str) -> None:
    """`kp.debug` on every faulty and every healthy program of benchmarks/model_faults."""
    run_marked(session, backend, "gallery and not cross", "--timeout=0")


@nox.session
@each_backend
def tuning(session: nox.Session, backend: str) -> None:
    """Searches whose processes are killed, with every sampler and storage."""
    run_marked(session, backend, "tuning", "--timeout=0")


@nox.session
@each_backend
def services(session: nox.Session, backend: str) -> None:
    """Searches whose study is in a real PostgreSQL server, which `apt-get` installs if it is not
    there.
    """
    if not any(Path("/usr/lib/postgresql").glob("*/bin")) and not shutil.which("pg_ctl"):
        session.run("apt-get", "install", "--yes", "postgresql", external=True)
    install_package(session, EXTRAS[backend])
    install(session, *group("test"), *group("test-services"))
    run_pytest(session, backend, "tests", "-m", "services", "--timeout=0", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The page of `keras-patterns report` in a headless Chromium, which `apt-get` installs if it is
    not there.
    """
    if not shutil.which("chromium-headless-shell") and not shutil.which("chromium"):
        packages = ("install", "--yes", "--no-install-recommends", "chromium-headless-shell")
        session.run("apt-get", *packages, external=True)
    install_package(session, EXTRAS["jax"])
    install(session, *group("test"), *group("test-browser"))
    run_pytest(session, "jax", "tests", "-m", "browser", *session.posargs)


@nox.session
@each_backend
def trackers(session: nox.Session, backend: str) -> None:
    """Runs that are killed, as TensorBoard, W&B (offline) and MLflow (in a database) show them."""
    install_package(session, EXTRAS[backend])
    install(session, *group("test"), *group("test-trackers"))
    offline = {"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    session.env.update(offline)
    run_pytest(session, backend, "tests", "-m", "trackers", "--timeout=1200", *session.posargs)


@nox.session
@each_backend
def ray(session: nox.Session, backend: str) -> None:
    """Searches by actors on a real local cluster of Ray, with two CPUs and a small store."""
    install_package(session, EXTRAS[backend])
    install(session, *group("test"), *group("test-ray"))
    run_pytest(session, backend, "tests", "-m", "ray", "--timeout=1200", *session.posargs)


@nox.session
@each_backend
def fuzz(session: nox.Session, backend: str) -> None:
    """Hostile folders of checkpoints, by the thousand."""
    run_marked(session, backend, "fuzz", "--timeout=0")


@nox.session
@each_backend
def keras_tests(session: nox.Session, backend: str) -> None:
    """Keras's own tests of `fit` and of its callbacks, with `kp.fit` in its place. They want all
    backends installed.
    """
    install_package(session, *EXTRAS.values())
    install(session, *group("test"))
    run_pytest(
        session,
        backend,
        "tests/conformance/test_keras_own_tests.py",
        "-m",
        "keras_tests",
        "--timeout=0",
        *session.posargs,
    )


@nox.session
@each_backend
def architectures(session: nox.Session, backend: str) -> None:
    """Large models of keras.applications, frozen, thawed in part and trained for a few steps."""
    run_marked(session, backend, "architectures")


@nox.session
def demo(session: nox.Session) -> None:
    """A run killed twice and resumed, on JAX; `nox -s demo -- torch jax` installs others, the first
    one leads.
    """
    backends = chosen_backends(session)
    install_package(session, "demo", *(EXTRAS[backend] for backend in backends))
    session.run("keras-patterns", "demo", env={"KERAS_BACKEND": backends[0], **QUIET})


@nox.session
@each_backend
def bench(session: nox.Session, backend: str) -> None:
    """Every benchmarks/bench_*.py, one after the other, or those that are named: `nox -s
    "bench(jax)" -- steps save --rounds 5`.
    """
    install_package(session, EXTRAS[backend], "demo")
    install(session, *group("bench"), *group(f"bench-{backend}"))
    scripts = {
        path.stem.removeprefix("bench_"): str(path)
        for path in sorted((ROOT / "benchmarks").glob("bench_*.py"))
    }
    named = [argument for argument in session.posargs if argument in scripts]
    options = [argument for argument in session.posargs if argument not in scripts]
    for name in named or scripts:
        session.run("python", scripts[name], *options, env={"KERAS_BACKEND": backend, **QUIET})


@nox.session
def docs(session: nox.Session) -> None:
    """The site in build/site, from docs/ and the docstrings, with every warning as an error. Its
    notebooks are run, on JAX or, by `nox -s docs -- torch`, on another backend. Its links, its
    size, the public names on it, its words, and that it asks for nothing from the net are checked.
    """
    backend = chosen_backends(session)[0]
    install_package(session, EXTRAS[backend])
    install(session, *group("docs"))
    site = ROOT / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    strict = ("-W", "-n", "--keep-going", "-q", "-d", scratch("doctrees"))
    environment = {**compiled_once(), "KERAS_BACKEND": backend, **QUIET}
    session.run("sphinx-build", *strict, str(ROOT / "docs"), str(site), env=environment)
    session.run("python", str(ROOT / "docs" / "site" / "check.py"), str(site), env=environment)


@nox.session
def build(session: nox.Session) -> None:
    """The source archive and the wheel in dist/, checked."""
    install(session, *group("build"))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    build_archives(session, ROOT / "dist")
    session.run("twine", "check", "--strict", *map(str, (ROOT / "dist").iterdir()))


def chosen_backends(session: nox.Session) -> list[str]:
    """The backends named after `--`; JAX if there are none."""
    backends = session.posargs or ["jax"]
    if unknown := set(backends) - set(EXTRAS):
        session.error(
            f"No such backend: {', '.join(sorted(unknown))}. Choose from {', '.join(EXTRAS)}"
        )
    return backends


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


def install(session: nox.Session, *requirements: str) -> None:
    """Without compiling every module of a framework: a third of them is imported, and Python
    compiles what it imports.
    """
    session.install("--no-compile", "--constraint", str(CONSTRAINTS), *requirements)


def install_package(session: nox.Session, *extras: str) -> None:
    """Install the built wheel: the folders `patterns` and `backends` are never imported from the
    checkout.
    """
    packages = Path(session.virtualenv.location).glob("lib/*/site-packages/keras_patterns")
    is_there = any(packages)
    install(session, f"keras-patterns[{','.join(extras)}] @ {Path(wheel(session)).as_uri()}")
    if is_there:
        # pip keeps what has the same version.
        session.install("--force-reinstall", "--no-deps", wheel(session))


def wheel(session: nox.Session) -> str:
    """The wheel's path. It is built once in a run of nox, by whichever session needs it first."""
    folder = Path(SCRATCH.name, "dist")
    if not folder.exists():
        install(session, "build")
        build_archives(session, folder)
    return str(next(folder.glob("*.whl")))


def build_archives(session: nox.Session, folder: Path) -> None:
    """Build the source archive, and the wheel from it: neither reads what an older build left in
    build/.
    """
    shutil.rmtree(ROOT / "keras_patterns.egg-info", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder), str(ROOT), silent=True)


def pinned(*requirements: str) -> list[str]:
    """The lines of the constraints that name these requirements."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in requirements]


def run_tests(session: nox.Session, backend: str) -> None:
    """Run the tests named after `--`, or all of them after the docstrings' examples."""
    if session.posargs:
        run_pytest(session, backend, *session.posargs)
        return
    # Examples may write files, and importable folders of the checkout must not be in sight.
    with session.chdir(scratch("doctest")):
        # The adapters of the other backends cannot be imported here; whatever else cannot fails in
        # the tests.
        examples = (
            "--doctest-modules",
            "--doctest-ignore-import-errors",
            "--pyargs",
            "keras_patterns",
        )
        run_pytest(session, backend, *examples, "--numprocesses=2")
    elsewhere = [f"--ignore={path}" for path in FROM_SOURCES]
    once = () if backend == "jax" else ("-m", f"{DESELECTED} and not once")
    run_pytest(session, backend, *TESTS, *elsewhere, *once, *SPREAD)


def run_marked(session: nox.Session, backend: str, mark: str, *options: str) -> None:
    """Run the tests that an ordinary run leaves out, with one backend installed."""
    install_package(session, EXTRAS[backend])
    install(session, *group("test"))
    run_pytest(session, backend, "tests", "-m", mark, *options, *session.posargs)


def run_pytest(session: nox.Session, backend: str, *arguments: str) -> None:
    """One thread for each process, as two run side by side; the user's own keras.json plays no
    part.
    """
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environment = {
        **compiled_once(),
        "KERAS_BACKEND": backend,
        "KERAS_HOME": scratch("keras"),
        "MPLBACKEND": "Agg",
        # Each process would compile anew what it imports.
        "PYTHONDONTWRITEBYTECODE": "",
        **threads,
        **QUIET,
    }
    session.run(
        "pytest", "--config-file", str(ROOT / "pyproject.toml"), *arguments, env=environment
    )


def compiled_once() -> dict[str, str]:
    """Nearly all the time of a small model on JAX is compilation, and each is trained many times
    over.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": scratch("jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def scratch(name: str) -> str:
    """A folder that goes when nox ends."""
    folder = Path(SCRATCH.name, name)
    folder.mkdir(exist_ok=True)
    return str(folder)
