"""Actors of Ray that work on one search."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_patterns.backends import current

from .._util.arguments import check_number
from .._util.messages import first_line, say
from ..run.signals import RunInterrupted
from .errors import TuningError
from .folder import StudyFolder
from .opening import SearchArguments, open_search
from .search import Search, until
from .workers import check_workers, signals_to

# A worker that dies so often while no trial gets on would do so for ever.
_MOST_DEATHS = 5
# Signals are looked at so often.
_SECONDS = 1.0


def ray_of(caller: str) -> Any:
    """Ray, which is imported late, since only people with many machines have it.

    Raises:
        ImportError: If it is missing.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            f'{caller}: engine="ray" needs Ray, which is missing: pip install ray (the extra '
            "`ray`)."
        ) from error
    return ray


def check_actors(asked: SearchArguments, resources: Mapping[str, float] | None) -> None:
    """Raises if actors on several machines cannot work on a search.

    Raises:
        ImportError: If Ray is missing.
        TypeError: If `resources` is not a mapping of numbers.
        ValueError: If they cannot be given the objective, or reach the storage.
    """
    check_workers(asked, 'engine="ray" starts actors', by_file=False)
    if isinstance(asked.storage, str) and asked.storage.startswith("sqlite"):
        raise ValueError(
            f'{asked.caller}: engine="ray" starts actors on any machine of the cluster, and SQLite '
            "is a file for the processes of one. Leave storage= out, which keeps a journal in the "
            f"folder that they share, or give a server's URL. Received: {asked.storage!r}."
        )
    if resources is not None and not isinstance(resources, Mapping):
        raise TypeError(
            f"{asked.caller}: `resources_per_worker` must map Ray's names of resources to amounts, "
            f'such as {{"CPU": 2, "GPU": 1}}. Received: {resources!r}.'
        )
    for name, amount in (resources or {}).items():
        check_number(asked.caller, f"resources_per_worker[{name!r}]", amount)
    ray_of(asked.caller)


def run_actors(
    asked: SearchArguments,
    workers: int,
    seconds: float | None,
    resources: Mapping[str, float] | None,
    search: Search,
) -> None:
    """Lets actors of Ray work on a search until nothing is left to do.

    Args:
        asked: The search.
        workers: How many actors.
        seconds: After so many no trial is begun.
        resources: What each is given, by Ray's names.
        search: The same, opened here.

    Raises:
        TuningError: If one has ended with an error, or dies again and again.
        SystemExit: If a signal asked this process to end. The actors have saved by then.
    """
    ray = ray_of(asked.caller)
    # The actors work in another folder, and would draw another seed.
    asked = replace(asked, directory=search.folder.path, seed=search.seed)
    needed = {"CPU": 1, **(resources or {})}
    with _cluster(ray, asked, needed):
        crew = _Crew(ray, asked, needed, search, seconds)
        # Ray cannot be called inside a handler.
        with signals_to(lambda: None) as received:
            crew.run(workers, received)
    if received:
        raise SystemExit(128 + received[0])


@contextmanager
def _cluster(ray: Any, asked: SearchArguments, needed: Mapping[str, float]) -> Iterator[None]:
    """The cluster that this process is connected to; or else, until the end, the one that
    RAY_ADDRESS or `ray start` names, or a new one on this machine.
    """
    if ray.is_initialized():
        yield
        return
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    ray.init(
        include_dashboard=False, log_to_driver=asked.verbose != 0, logging_level=logging.WARNING
    )
    try:
        there = ray.cluster_resources()
        lacking = {
            name: there.get(name, 0.0)
            for name, amount in needed.items()
            if there.get(name, 0.0) < amount
        }
        if lacking:
            raise ValueError(
                f"{asked.caller}: a worker is to have {dict(needed)}, and the cluster has "
                f"{lacking}. Ask for less by resources_per_worker=, or connect to a larger one by "
                "ray.init(address=...)."
            )
        yield
    finally:
        ray.shutdown()
        if is_main:
            # Ray leaves its own, which ends the process with another exit status.
            signal.signal(signal.SIGTERM, before)


class Worker:
    """A worker of a search, of which Ray makes an actor."""

    def where(self) -> tuple[str, int]:
        """Ray's name of its machine, and its process there."""
        from ray import get_runtime_context

        return get_runtime_context().get_node_id(), os.getpid()

    def work(
        self, asked: SearchArguments, study: str, settings: Mapping[str, Any], seconds: float | None
    ) -> bool:
        """Takes trials as long as there are any; False if a signal has stopped it, and it has
        saved.

        Args:
            asked: The search.
            study: Its name.
            settings: Of Keras.
            seconds: After so many no trial is begun.

        Raises:
            TuningError: If the folder is not the one that the others have.
        """
        found = StudyFolder(asked.caller, asked.directory).read()
        if found is None or found.name != study:
            raise TuningError(
                f"{asked.caller}: {asked.directory} on {socket.gethostname()} does not hold the "
                f"study {study!r}, which was begun there by another machine. Give the search a "
                "folder on storage that all machines of the cluster share, at the same place."
            )
        _take_settings(settings)
        try:
            open_search(asked).run(until(seconds))
        except RunInterrupted:
            return False
        return True


def _keras_settings() -> dict[str, Any]:
    """Those that a script makes at its top, which actors do not read."""
    return {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "dtype_policy": keras.dtype_policies.serialize(keras.config.dtype_policy()),
    }


def _take_settings(settings: Mapping[str, Any]) -> None:
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    keras.config.set_dtype_policy(keras.dtype_policies.deserialize(settings["dtype_policy"]))


@dataclass(frozen=True)
class _Member:
    """An actor at work.

    Attributes:
        actor: Ray's.
        where: What `Worker.where` will give.
        deaths: How many have died in its place since the trials got on.
        seen: How far the trials were then.
    """

    actor: Any
    where: Any
    deaths: int
    seen: int


class _Crew:
    """The actors of one search.

    Args:
        ray: The module.
        asked: The search.
        needed: What each actor is given.
        search: As it is opened here.
        seconds: After so many no trial is begun.
    """

    def __init__(
        self,
        ray: Any,
        asked: SearchArguments,
        needed: Mapping[str, float],
        search: Search,
        seconds: float | None,
    ) -> None:
        self._ray, self._needed, self._search = ray, needed, search
        self._asked = asked
        self._sent = _sent(ray, replace(asked, verbose=search.verbose))
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._at_work: dict[Any, _Member] = {}
        self._error: TuningError | None = None
        self._has_died = False

    def run(self, workers: int, received: list[int]) -> None:
        """Starts them, and waits for all; one that dies is replaced.

        Args:
            workers: How many.
            received: The signals that have come. The first asks the actors to save and end, the
                next ends them at once.
        """
        is_told = False
        try:
            for _ in range(workers):
                self._start()
            while self._at_work and len(received) < 2:
                ended, _ = self._ray.wait([*self._at_work], timeout=_SECONDS)
                for work in ended:
                    self._take(work, is_told or bool(received))
                if not is_told and (received or self._error):
                    is_told = True
                    self._ask_to_save()
        finally:
            for member in self._at_work.values():
                self._ray.kill(member.actor)
        if self._error:
            raise self._error
        if self._has_died and not is_told and self._left() != 0.0 and self._search.has_more():
            raise TuningError(
                f"{self._asked.caller}: a worker has died, and its trial is still locked, as file "
                "systems of the network do for some time. Every trial is kept. Start the script "
                "again to go on with it."
            )

    def _start(self, deaths: int = 0, seen: int = 0) -> None:
        resources = dict(self._needed)
        actor = (
            self._ray.remote(Worker)
            .options(
                num_cpus=resources.pop("CPU"),
                num_gpus=resources.pop("GPU", 0),
                resources=resources,
                runtime_env={"env_vars": {"KERAS_BACKEND": current().name}},
            )
            .remote()
        )
        where = actor.where.remote()
        study = self._search.study.study_name
        work = actor.work.remote(self._sent, study, _keras_settings(), self._left())
        self._at_work[work] = _Member(actor, where, deaths, seen)

    def _left(self) -> float | None:
        return None if self._ends is None else max(self._ends - time.monotonic(), 0.0)

    def _take(self, work: Any, is_ending: bool) -> None:
        """Takes the end of an actor's work."""
        member = self._at_work.pop(work)
        died = None
        try:
            if not self._ray.get(work):
                died = "it was asked to save and end"
        except self._ray.exceptions.RayTaskError as error:
            self._error = self._error or self._failed(error)
        except self._ray.exceptions.RayError as error:
            died = first_line(error)
        self._ray.kill(member.actor)
        self._has_died |= died is not None
        if died and not is_ending and self._error is None and self._search.has_more():
            self._replace(member, died)

    def _replace(self, member: _Member, died: str) -> None:
        trials = self._search.study.get_trials(deepcopy=False)
        seen = sum(len(one.intermediate_values) + one.state.is_finished() for one in trials)
        deaths = member.deaths + 1 if seen == member.seen else 1
        if deaths == _MOST_DEATHS:
            self._error = TuningError(
                f"{self._asked.caller}: {deaths} workers have died one after the other, and no "
                f"trial has got on in between. The last one: {died}. Every trial is kept. Mend it, "
                "and start the script again."
            )
            return
        say(f"a worker has died ({died}); another one goes on.", verbose=self._asked.verbose)
        self._start(deaths, seen)

    def _failed(self, error: Any) -> TuningError:
        cause = error.cause
        notes = "".join(f", {note}" for note in getattr(cause, "__notes__", []))
        failed = TuningError(
            f"{self._asked.caller}: a worker ended with an error ({first_line(cause)}{notes}). "
            "Every trial is kept. Mend it, and start the script again."
        )
        failed.__cause__ = error
        return failed

    def _ask_to_save(self) -> None:
        """Sends each actor SIGTERM, from its own machine; one that has not started is ended."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for member in self._at_work.values():
            try:
                node, process = self._ray.get(member.where, timeout=_SECONDS)
            except self._ray.exceptions.RayError:
                self._ray.kill(member.actor)
                continue
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            remote = self._ray.remote(_ask).options(num_cpus=0, scheduling_strategy=there)
            remote.remote(process)


def _sent(ray: Any, asked: SearchArguments) -> Any:
    """The search, where actors find it."""
    try:
        return ray.put(asked)
    except TypeError as error:
        raise TypeError(
            f"{asked.caller}: the objective, or what it uses of the script, cannot be sent to "
            f"Ray's actors ({first_line(error)}). Make that inside the objective, or put the "
            "objective in a module, which they import."
        ) from error


def _ask(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
