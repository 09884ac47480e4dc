"""The life of one private server process: on a free loopback port, in a folder of its own, as the current user.

A `PrivateServer` is started without any of the machine's configuration, waited for until it answers, and stopped again:
in `stop`, at the end of the ``with`` block, at the interpreter's exit or on SIGTERM. A server that this process did not
start is never touched. The kinds of servers are in `demo_site.servers`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import ClassVar, Self

HOST = "127.0.0.1"
_LONGEST_SOCKET_PATH = 100  # bytes; the kernel's own limit is 107
_PORT_ATTEMPTS = 10
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # sbin is not on a user's PATH on Debian


class ServerError(RuntimeError):
    """A private server did not start, or died. The message has the end of its log."""


class FolderTaken(ServerError):
    """Another server runs on this data folder."""


class _PortTaken(Exception):
    """Another process took the port between our choosing it and the server's binding it."""


def program(*names: str) -> str:
    """Path of the first of these programs that is installed; ServerError naming the Debian package otherwise."""
    for name in names:
        found = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
        if found:
            return found
    package = "redis-server" if "redis" in names[0] else "mariadb-server"
    raise ServerError(f"{names[0]} is not installed. Install the package {package}, or run scripts/bootstrap.sh.")


def free_port() -> int:
    """A loopback port that is free now. It may be taken before it is used: whoever binds it has to try again."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class PrivateServer:
    """One server process. `start` and `stop` may be called any number of times, in turns.

    ``datadir`` is created when it is missing and kept by `stop`. ``deadline`` is how many seconds the server has to
    answer after its start. The port is chosen at the first start and stays the same from then on.
    """

    label: ClassVar[str]
    host = HOST

    def __init__(self, datadir: str | os.PathLike[str], *, deadline: float = 60.0) -> None:
        self.datadir = Path(datadir).absolute()
        self.deadline = deadline
        self.port = 0
        self.socket = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._socket_folder: str | None = None
        self._lock: int | None = None

    # -- what a kind of server adds

    def _prepare(self) -> None:
        """Fill an empty data folder."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self, connection: socket.socket) -> bool:
        """Does the server at the other end serve? May raise OSError."""
        raise NotImplementedError

    # -- life

    @property
    def log(self) -> Path:
        return self.datadir / "server.log"

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it answers. ServerError when it doesn't."""
        if self.running:
            return self
        self.stop()
        self.datadir.mkdir(parents=True, exist_ok=True)
        self._take_folder()
        try:
            self._prepare()
            self._choose_socket()
            self._start_on_a_port()
        except BaseException:
            self.stop()
            raise
        _running.add(self)
        _watch_exit()
        return self

    def stop(self, timeout: float = 30.0) -> None:
        """End the server that `start` started, if it still runs; after ``timeout`` seconds by force. Idempotent."""
        _running.discard(self)
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            _end(process, timeout)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._socket_folder is not None and self._owner == os.getpid():
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    def restart(self) -> None:
        """Stop and start again on the same port, with the same data."""
        self.stop()
        self.start()

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal. After SIGKILL and SIGTERM the process is gone when this returns; `start` brings it back.

        After SIGSTOP all its threads stand still.
        """
        process = self._process
        if process is None or process.poll() is not None:
            raise ServerError(f"{self.label} does not run.")
        process.send_signal(sig)
        if sig in (signal.SIGKILL, signal.SIGTERM):
            process.wait(self.deadline)
        elif sig == signal.SIGSTOP:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # a thread may be answering until then

    def tail(self, lines: int = 30) -> str:
        """The last lines of the server's log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- details

    def _take_folder(self) -> None:
        # Two servers on one data folder destroy it. The server inherits the lock and so keeps it if we are killed.
        lock = os.open(self.datadir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FolderTaken(
                f"Another {self.label} runs on {self.datadir}. Stop it, or choose another folder."
            ) from None
        self._lock = lock

    def _choose_socket(self) -> None:
        path = str(self.datadir / "server.sock")
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            if self._socket_folder is None:
                self._socket_folder = tempfile.mkdtemp(prefix="pooling-", dir="/tmp")
                self._owner = os.getpid()
            path = os.path.join(self._socket_folder, "server.sock")
        self.socket = path

    def _start_on_a_port(self) -> None:
        fixed = self.port != 0
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            if not fixed:
                self.port = free_port()
            try:
                self._launch()
                return
            except _PortTaken:
                if fixed or attempt == _PORT_ATTEMPTS:
                    raise ServerError(f"{self.label}: port {self.port} is taken.\n{self.tail()}") from None

    def _launch(self) -> None:
        assert self._lock is not None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        command = self._command()
        # With the parent killed outright nobody stops the server; the kernel then does. The signal comes at the end
        # of the *thread* that started it, so only the main thread may ask for it.
        setpriv = shutil.which("setpriv")
        if setpriv and threading.current_thread() is threading.main_thread():
            command = [setpriv, "--pdeathsig", "TERM", "--", *command]
        start_of_log = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.datadir,
                pass_fds=(self._lock,),
                start_new_session=True,  # Ctrl-C is for us alone: we stop the servers, in our order
            )
        self._process = process
        self._owner = os.getpid()
        try:
            self._await(process, start_of_log)
        except BaseException:
            _end(process, 5.0)
            raise

    def _await(self, process: subprocess.Popen[bytes], start_of_log: int) -> None:
        end = time.monotonic() + self.deadline
        while True:
            if process.poll() is not None:
                with open(self.log, "rb") as log:
                    log.seek(start_of_log)
                    text = log.read().decode(errors="replace")
                if "Address already in use" in text:
                    raise _PortTaken
                raise ServerError(f"{self.label} ended with status {process.returncode}:\n{self.tail()}")
            # Asked through the socket file, which is made after the port is bound and is ours alone; at the port
            # another server could answer while ours is still failing to bind it.
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(1.0)
                    connection.connect(self.socket)
                    if self._answers(connection):
                        return
            except OSError:
                pass  # not there yet
            if time.monotonic() > end:
                raise ServerError(f"{self.label} did not answer within {self.deadline:g} s:\n{self.tail()}")
            time.sleep(0.02)


def _end(process: subprocess.Popen[bytes], timeout: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # a stopped process acts on SIGTERM only once it goes on
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_running: set[PrivateServer] = set()
_watching = 0


def _stop_all() -> None:
    for server in list(_running):
        if server._owner == os.getpid():  # a forked child must leave its parent's servers alone
            server.stop()


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _watch_exit() -> None:
    global _watching
    if _watching != os.getpid():
        _watching = os.getpid()
        atexit.register(_stop_all)
    # Only where nobody else handles SIGTERM; without a handler it ends Python before any atexit function runs.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)
