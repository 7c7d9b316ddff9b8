"""Real database servers for metadata, from Debian's packages, on loopback in a folder of their own."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import portpicker

__all__ = ["PASSWORD", "Database", "MariaDB", "PostgreSQL", "serving"]

SCRIPT = Path(__file__).parents[2] / "scripts" / "test_databases.sh"
PASSWORD = "hush-17"
_START_S = 60
_NOBODY = 65534
"""PostgreSQL refuses to run as root, and MariaDB wants to be told twice."""


@dataclass
class Database:
    """A server with the user `mlmd`, its password, and the database `mlmd`.

    Attributes:
        folder: Its data, socket and log.
        port: Where it listens on 127.0.0.1.
    """

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    scheme: ClassVar[str]
    engine: ClassVar[str]
    ready: ClassVar[str]

    @property
    def url(self) -> str:
        """What a config calls `metadata.url`."""
        return f"{self.scheme}://mlmd@127.0.0.1:{self.port}/mlmd"

    @property
    def tree(self) -> Path:
        """Folder of the unpacked packages."""
        return Path(subprocess.run([SCRIPT, self.engine], check=True, text=True, stdout=-1).stdout.strip())

    def create(self) -> None:
        """Make the data folder, the user and the database."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return what starts the server."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        told = len(self.log.read_text()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            # A test run that is killed takes its servers along.
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                self.command(), stdout=log, stderr=log, preexec_fn=_die_with_parent, **self._owner
            )
        deadline = time.monotonic() + _START_S
        # An open port is not enough: PostgreSQL refuses whoever comes while it starts up.
        while self.ready not in self.log.read_text()[told:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.engine} did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End the server as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    @property
    def _owner(self) -> dict[str, object]:
        libraries = ":".join(str(path) for path in sorted((self.tree / "usr/lib").glob("*-linux-gnu")))
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LD_LIBRARY_PATH": libraries}
        owner = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        return {"env": env, "cwd": self.folder, **owner}

    def _run(self, *command: str, text: str) -> None:
        done = subprocess.run(
            command, input=text.encode(), stdout=-1, stderr=subprocess.STDOUT, **self._owner
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout.decode()[-2000:]


class MariaDB(Database):
    """MariaDB's server."""

    scheme = "mysql"
    engine = "mariadb"
    ready = "ready for connections"

    def create(self) -> None:
        """Make the data folder; the user and the database come at the first start."""
        (self.folder / "data").mkdir()
        share = self.tree / "usr/share/mysql"
        tables = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        text = "".join((share / name).read_text() for name in tables)
        # One statement a line, or the server takes none of them.
        users = ("mlmd@localhost", "mlmd@'127.0.0.1'")
        lines = ["create database if not exists mlmd;"]
        lines += [f"create user if not exists {user} identified by '{PASSWORD}';" for user in users]
        lines += [f"grant all on mlmd.* to {user};" for user in users]
        (self.folder / "init.sql").write_text("\n".join(lines) + "\n")
        _give_away(self.folder)
        self._run(*self._server, "--bootstrap", text=f"create database mysql;\nuse mysql;\n{text}")

    def command(self) -> list[str]:
        """Return what starts the server."""
        return [
            *self._server,
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--init-file={self.folder}/init.sql",
        ]

    @property
    def _server(self) -> list[str]:
        tree = self.tree
        return [
            str(tree / "usr/sbin/mariadbd"), "--no-defaults", f"--basedir={tree / 'usr'}",
            f"--lc-messages-dir={tree / 'usr/share/mysql'}", f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}",
            f"--tmpdir={self.folder}", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M",
        ]  # fmt: skip


class PostgreSQL(Database):
    """PostgreSQL's server."""

    scheme = "postgresql"
    engine = "postgresql"
    ready = "ready to accept connections"

    def create(self) -> None:
        """Make the data folder, the user and the database."""
        password = self.folder / "password"
        password.write_text(PASSWORD)
        _give_away(self.folder)
        data = str(self.folder / "data")
        self._run(
            str(self._bin / "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256",
            f"--pwfile={password}", "-E", "UTF8", text="",
        )  # fmt: skip
        text = f"create role mlmd login password '{PASSWORD}'\ncreate database mlmd owner mlmd\n"
        self._run(str(self._bin / "postgres"), "--single", "-D", data, "postgres", text=text)

    def command(self) -> list[str]:
        """Return what starts the server."""
        return [
            str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-h", "127.0.0.1",
            "-p", str(self.port), "-k", str(self.folder), "-c", "jit=off",
        ]  # fmt: skip

    @property
    def _bin(self) -> Path:
        (found,) = self.tree.glob("usr/lib/postgresql/*/bin")
        return found


@contextmanager
def serving(kind: type[Database]) -> Iterator[Database]:
    """Run a new, empty server."""
    # Not pytest's folder: only its owner may enter that.
    folder = Path(tempfile.mkdtemp(prefix="headrace-db-"))
    database = kind(folder, portpicker.pick_unused_port())
    try:
        database.create()
        database.start()
        yield database
    finally:
        database.kill()
        shutil.rmtree(folder)


def _die_with_parent() -> None:
    # prctl(PR_SET_PDEATHSIG); after the change of user, which would undo it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)
