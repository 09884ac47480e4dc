"""The site under gunicorn: one process of many threads, listening on a socket that was bound before it started."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

HOST = "127.0.0.1"
THREADS = 32
START_DEADLINE = 60.0  # seconds


class WebError(RuntimeError):
    """The site did not start or the port is in use; the message says what to do."""


def listen(port: int = 0) -> socket.socket:
    """A listening socket on the loopback interface; port 0 takes a free one. WebError when the port is in use."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        raise WebError(
            f"Port {port} on {HOST} cannot be used ({error.strerror}). Choose another: PORT={port + 1}."
        ) from None
    sock.listen(512)
    return sock


class WebServer:
    """gunicorn on ``sock``, which it inherits, so that the port can be lost to nobody. A context manager."""

    def __init__(
        self, sock: socket.socket, scheme: str, *, env: dict[str, str], log: Path | None = None, threads: int = THREADS
    ) -> None:
        self.sock = sock
        self.port: int = sock.getsockname()[1]
        self.scheme = scheme
        self.env = env
        self.log = log
        self.threads = threads
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "demo_site.wsgi:application",
            "--bind",
            f"fd://{self.sock.fileno()}",
        ]
        command += ["--worker-class", "gthread", "--workers", "1", "--threads", str(self.threads), "--keep-alive", "75"]
        command += ["--graceful-timeout", "3", "--log-level", "warning", "--no-control-socket"]
        setpriv = shutil.which("setpriv")
        if setpriv and threading.current_thread() is threading.main_thread():
            command = [setpriv, "--pdeathsig", "TERM", "--", *command]  # killed outright, we leave nothing running
        out: IO[bytes] | None = open(self.log, "wb") if self.log else None
        try:
            self.process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    **self.env,
                    "DEMO_SCHEME": self.scheme,
                    "DJANGO_SETTINGS_MODULE": "demo_site.settings",
                },
                pass_fds=(self.sock.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for us alone: we stop it
            )
        finally:
            if out:
                out.close()
        try:
            self._await()
        except BaseException:
            self.stop()
            raise
        return self

    def _await(self) -> None:
        assert self.process is not None
        end = time.monotonic() + START_DEADLINE
        status = 0
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise WebError(f"The site ({self.scheme}) ended with status {self.process.returncode}. {self._tail()}")
            connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
            try:
                connection.request("GET", "/accounts/login/")
                status = connection.getresponse().status
                if status == 200:
                    return
            except TimeoutError:
                pass  # the socket listens already; the application is still being loaded
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                connection.close()
            if status >= 500:
                break
        raise WebError(f"The site ({self.scheme}) does not answer (last status: {status or 'none'}). {self._tail()}")

    def _tail(self) -> str:
        if self.log is None:
            return "Its messages are above."
        return f"The end of {self.log}:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def stop(self) -> None:
        """End it, within ten seconds, by force if it must be. Idempotent. The socket stays open."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its own session: the master and its worker, nobody else
                process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
