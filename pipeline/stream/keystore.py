"""Keys in files: one per window, wrapped under a key-encryption key, shared by all workers that see the directory.

A window's key is drawn by whoever asks first (a hard link decides between two that ask at once). Destroying it
overwrites and removes the file and leaves a mark, so that it is never drawn again. The key-encryption key comes
from the environment or from a file, and is never in the directory.
"""

import os
import secrets
import stat
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core.pseudonyms import WindowKey
from pipeline.core.windows import Window
from pipeline.stream.keys import ROUTE, KeyState
from pipeline.stream.keywrapping import KeyStoreError, Wrapping, new_key


class FileKeyStore:
    """A directory of wrapped keys, readable by its owner alone. Threads may share the store."""

    def __init__(self, directory: Path, *keks: bytes) -> None:
        self._directory = directory
        self._wrapping = Wrapping(*keks)
        self._known: dict[Window, WindowKey] = {}
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyStoreError(f"the directory of keys can be read by others: chmod 700 {directory}")
        for mark in directory.glob("*.destroyed"):
            self._erase(mark.stem)  # a process may have died between the mark and the bytes
        self._route = self._load_or_draw(ROUTE)

    def window(self, window: Window) -> WindowKey | None:
        """The window's key; ``None`` once it was destroyed, by whichever worker."""
        with self._lock:
            return self._window(window)

    def _window(self, window: Window) -> WindowKey | None:
        known = self._known.get(window)
        if known is not None and self._path(window.name).exists():
            return known
        if self._mark(window.name).exists():
            self._known.pop(window, None)
            return None
        if known is not None or not self._path(ROUTE).exists():  # a second key would count everybody twice
            raise KeyStoreError(
                f"{self._directory} has lost the key of {window.name}, or all keys, and nobody destroyed them: put the "
                "directory back as it was; docs/operators.md says under Keys what to do if it is lost"
            )
        try:
            key = self._load_or_draw(window.name)
        except (KeyStoreError, FileNotFoundError):  # overwritten or removed while it was read: then it is marked
            if not self._mark(window.name).exists():
                raise
            self._erase(window.name)  # what was drawn meanwhile, too
            return None
        if self._mark(window.name).exists():  # destroyed while it was drawn
            self._erase(window.name)
            return None
        self._known[window] = WindowKey(key)
        return self._known[window]

    def destroy(self, window: Window) -> None:
        """The mark first: from then on nobody draws the key again. Then the bytes."""
        with self._lock:
            if not self._path(ROUTE).exists():  # a mark in another directory would leave the key alive in this one
                raise KeyStoreError(f"{self._directory} has lost all keys: put the directory back as it was")
            self._mark(window.name).touch(mode=0o600)
            self._sync()
            self._erase(window.name)
            self._known.pop(window, None)

    def forget_destroyed(self) -> None:
        """Drops from memory what another worker has destroyed."""
        with self._lock:
            for window in [w for w in self._known if self._mark(w.name).exists()]:
                del self._known[window]

    def route(self) -> bytes:
        return self._route

    def born(self) -> float:
        """When the store was made, in seconds since 1970: no window that had closed by then is released."""
        return self._path(ROUTE).stat().st_mtime

    def states(self) -> list[KeyState]:
        """Every key and every mark; a file's time says when."""
        found = [
            KeyState(mark.stem, "destroyed", destroyed=_time_of(mark), erased=not any(self._files(mark.stem)))
            for mark in self._directory.glob("*.destroyed")
        ]
        for path in self._directory.glob("[!.]*.key"):
            if not self._mark(path.stem).exists():
                with suppress(FileNotFoundError):  # destroyed since
                    current = self._wrapping.current(path.read_bytes(), path.stem)
                    found.append(KeyState(path.stem, "live", drawn=_time_of(path), current=current))
        return sorted(found, key=lambda key: key.id)

    def rotate(self) -> int:
        """Wraps every key anew that the first key-encryption key has not wrapped; gives how many."""
        done = 0
        with self._lock:
            for path in sorted(self._directory.glob("[!.]*.key")):
                try:
                    done += self._wrap_anew(path)
                except (KeyStoreError, FileNotFoundError):
                    if not self._mark(path.stem).exists():
                        raise
                if self._mark(path.stem).exists():  # destroyed meanwhile
                    self._erase(path.stem)
        return done

    def close(self) -> None:
        """Nothing is open."""

    def _wrap_anew(self, path: Path) -> bool:
        """The new file takes the old one's place at once, and its time; then the old one's bytes are overwritten."""
        with path.open("r+b") as old:
            wrapped = old.read()
            if self._wrapping.current(wrapped, path.stem):
                return False
            made = os.fstat(old.fileno()).st_mtime_ns
            draft = self._draft(path.stem, self._wrapping.wrap(self._unwrap(path.stem), path.stem))
            os.utime(draft, ns=(made, made))
            draft.replace(path)
            self._sync()
            _overwrite(old.fileno())
        return True

    def _load_or_draw(self, name: str) -> bytes:
        with suppress(FileNotFoundError):
            return self._unwrap(name)
        draft = self._draft(name, self._wrapping.wrap(new_key(), name))
        try:
            with suppress(FileExistsError):  # somebody else was first: theirs counts
                os.link(draft, self._path(name))
        finally:
            draft.unlink(missing_ok=True)
        self._sync()
        return self._unwrap(name)

    def _unwrap(self, name: str) -> bytes:
        wrapped = self._path(name).read_bytes()
        try:
            return self._wrapping.unwrap(wrapped, name)
        except KeyStoreError:
            again = self._path(name).read_bytes()
            if again == wrapped:
                raise
            return self._wrapping.unwrap(again, name)  # it was wrapped anew while it was read

    def _draft(self, name: str, wrapped: bytes) -> Path:
        draft = self._directory / f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, wrapped)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return draft

    def _erase(self, name: str) -> None:
        for path in self._files(name):
            with suppress(FileNotFoundError):
                with path.open("r+b") as file:
                    _overwrite(file.fileno())
                path.unlink()
                self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.key"

    def _files(self, name: str) -> list[Path]:
        """The key's file, and what a process that died has left of it."""
        # One pattern for all: Python keeps what it has made of each.
        drafts = [path for path in self._directory.glob(".*") if path.name.startswith(f".{name}.")]
        return [path for path in (self._path(name),) if path.exists()] + drafts

    def _mark(self, name: str) -> Path:
        return self._directory / f"{name}.destroyed"


def _overwrite(descriptor: int) -> None:
    os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
    os.fsync(descriptor)


def _time_of(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
