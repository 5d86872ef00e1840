"""A PostgreSQL server of one's own, in a new folder and on the loopback device."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

_USER = "postgres"


def missing() -> str:
    """What there is not; empty if a server can be started."""
    if not _programs():
        return "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "the server does not run as root, and there is no runuser"
    return ""


def _programs() -> Path | None:
    found = shutil.which("pg_ctl")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return Path(found).parent if found else folders[-1] if folders else None


class Server:
    """A server that is started and stopped; what it holds stays in between.

    Attributes:
        url: Of a database, for SQLAlchemy.
    """

    def __init__(self) -> None:
        # Another user has it, who cannot look into the folders of a test.
        self._folder = Path(tempfile.mkdtemp(prefix="keras-patterns-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://{_USER}@127.0.0.1:{self._port}/postgres"
        self._is_running = False
        self._run("initdb", "--auth=trust", f"--username={_USER}", "--no-sync")

    def start(self) -> None:
        """Waits until it answers."""
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder}"
        self._run("pg_ctl", "start", "--wait", f"--log={self._folder / 'log'}", "-o", options)
        self._is_running = True

    def stop(self) -> None:
        """Ends its connections, and waits for its end."""
        self._is_running = False
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def remove(self) -> None:
        """Stops it, and removes what it holds."""
        if self._is_running:
            self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        programs = _programs()
        assert programs
        command = [str(programs / program), f"--pgdata={self._folder / 'data'}", *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _USER, "--", *command]
        # The server would keep a pipe open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder)
