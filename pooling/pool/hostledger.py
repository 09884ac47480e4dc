"""The ledger of the processes of one host: a folder that they share.

``members.json`` has the shares; it is read and replaced under a lock on ``lock``. Each member keeps a lock on a file of
its own for as long as it lives. The kernel frees it with the process, however that ends, and so tells the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .budget import QUICK, Record, Standing, settle

# A child that is forked between the opening of a file and its recording would keep the file, and with it the parent's
# lock, without knowing of it.
_opening = threading.RLock()
os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release)


def usual_folder() -> Path:
    """A folder of this user's on this host. In memory where there is such a place, for that is the same for services
    that have been given a /tmp of their own."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    return parent / f"pooling-{os.geteuid()}"


class HostLedger:
    """A `Ledger` of the processes that use the same ``folder``; it is made when it is not there.

    Raises ValueError if the folder is another user's or others may write to it, OSError if it cannot be made.
    """

    def __init__(self, folder: Path, bounds: tuple[str, ...]) -> None:
        self.folder = folder
        self.bounds = bounds
        self._number = 0  # of this member, the oldest living one has the lowest; 0 is none
        self._share = 0
        self._alive = self._lock = -1
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for one in (folder, folder.parent):
            found = one.lstat()
            safe = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
            # Whoever has chosen the parent may share it as they like, but nobody else may change what is counted here.
            if not safe and (one is folder or one == usual_folder()):
                raise ValueError(
                    f"{one} is not a folder that belongs to this user alone, so the server's connections cannot be "
                    f"divided with 'max_size' \"auto\". Remove it, or name another one in 'budget_dir'."
                )

    def turn(self, used: int, limits: Mapping[str, int | None]) -> Standing:
        with self._locked():
            state = self._read()
            before = json.dumps(state)
            self._join(state["members"])
            self._bury(state["members"])
            state["limits"].update(limits)
            order = sorted(state["members"], key=int)
            records = [
                Record(member["share"], tuple(member["bounds"]), member["gone"] is not None)
                for member in (state["members"][key] for key in order)
            ]
            standing = settle(records, order.index(str(self._number)), used, state["limits"])
            state["members"][str(self._number)]["share"] = standing.share
            if json.dumps(state) != before:
                self._write(state)
            self._share = standing.share  # not before: what could not be written is not had
        return standing

    def leave(self) -> None:
        if not self._number:
            return
        with self._locked():
            state = self._read()
            if state["members"].pop(str(self._number), None) is not None:
                self._write(state)
            self._file(self._number).unlink(missing_ok=True)
            self._close()

    def forked(self) -> None:
        # Closed, not unlocked: the lock belongs to the open file, which is the parent's as well.
        self._close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _close(self) -> None:
        if self._alive >= 0:
            os.close(self._alive)
        self._alive, self._number, self._share = -1, 0, 0

    def _file(self, number: int | str) -> Path:
        return self.folder / f"{number}.alive"

    def _open(self, name: str, path: Path) -> int:
        with _opening:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            setattr(self, name, fd)
        return fd

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / "lock"
        while True:
            fd = self._open("_lock", path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if _same(fd, path):  # not one that somebody has deleted meanwhile
                    yield
                    return
            finally:
                # Said, not only closed: a child that was forked meanwhile has the same open file.
                fcntl.flock(fd, fcntl.LOCK_UN)
                with _opening:
                    os.close(fd)
                    self._lock = -1

    def _read(self) -> Any:
        try:
            text = (self.folder / "members.json").read_text("utf-8")
        except FileNotFoundError:
            return {"limits": {}, "members": {}}
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"{self.folder / 'members.json'} is damaged. Remove it while no process runs.") from error

    def _write(self, state: Any) -> None:
        # Replaced, so that whoever is killed meanwhile leaves the old one or the new one.
        new = self.folder / "members.new"
        new.write_text(json.dumps(state), "utf-8")
        new.replace(self.folder / "members.json")

    def _join(self, members: dict[str, Any]) -> None:
        """Be a member, also after somebody has emptied the folder."""
        if self._number and not _same(self._alive, self._file(self._number)):
            share = self._share
            self._close()
            self._share = share
        if not self._number:
            self._number = self._place(1 + max((int(key) for key in members), default=0))
        members.setdefault(str(self._number), {"share": self._share, "bounds": list(self.bounds), "gone": None})

    def _place(self, number: int) -> int:
        """The first number from ``number`` on that no living process has, with the lock on its file.

        Never waited for: a member that ``members.json`` does not name, because that was deleted or could not be
        written, keeps its lock for as long as it lives, and the ledger would be locked as long.
        """
        while True:
            fd = self._open("_alive", self._file(number))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return number
            except BlockingIOError:
                with _opening:
                    os.close(fd)
                    self._alive = -1
                number += 1

    def _bury(self, members: dict[str, Any]) -> None:
        """Find the dead. Their shares are free a little later, when the server must have noticed as well."""
        now = time.monotonic()  # the same for all processes of a host
        for key, member in list(members.items()):
            if int(key) == self._number or self._lives(key):
                continue
            if member["gone"] is None:
                member["gone"] = now
            elif not member["gone"] <= now < member["gone"] + QUICK:
                del members[key]
                self._file(key).unlink(missing_ok=True)

    def _lives(self, key: str) -> bool:
        with _opening:
            try:
                fd = os.open(self._file(key), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        return False


def _same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
