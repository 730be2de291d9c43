"""Checkpoints: a partition's state in files, so that who gets it next need not read the log from its beginning.

``DIR/<partition>/<offset>/``: ``state``, and one file for each open window, sealed with AES-GCM-SIV under a key that
the window's own key gives: when that is destroyed, nobody can read the file any more. A checkpoint has its name only
when all of it is on the disk. It is never more than a shortcut: one that is torn, old, of another log, or sealed under
another key is passed over with one line in the log, and the state is made from the log of contributions.
"""

import logging
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from pipeline.core.checkpoints import FORMAT, SavedPartition, SavedWindow, restore, save, save_window, shape_of
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.statistics import Plan
from pipeline.core.tallies import PartitionState
from pipeline.core.windows import window_named
from pipeline.stream.keywrapping import KeyStoreError

_STATE = "state"
_NONCE = 12
_DRAFT = "draft-"

log = logging.getLogger("headcount.checkpoints")


class Unusable(Exception):
    """A checkpoint that is passed over; says why."""


class Checkpoints:
    """The checkpoints of all partitions, in a directory that workers may share: whoever wrote one, it says the same.

    ``identity``: of the topic of contributions. Everything here may block.
    """

    def __init__(self, directory: Path, keys: KeyStore, plan: Plan, identity: str, *, bounded: bool) -> None:
        self._directory, self._keys, self._plan = directory, keys, plan
        self._identity, self._bounded = identity, bounded
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, state: PartitionState, offset: int) -> bool:
        """Writes one in the place of those before it; false where the disk does not take it, which is said."""
        folder = self._directory / str(state.partition)
        draft = folder / f"{_DRAFT}{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            draft.mkdir(mode=0o700)
            self._fill(draft, state, offset)
            named = folder / f"{offset:020d}"
            if not named.exists():  # else another worker has written the same
                draft.rename(named)
            _sync(folder)
            self._remove(folder, before=offset)
        except (OSError, OverflowError, KeyStoreError) as error:
            log.error("a checkpoint of partition %d was not written (%s)", state.partition, _why(error))
            return False
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def read(self, partition: int, earliest: int) -> tuple[PartitionState, int] | None:
        """The newest state that can be read, and the first offset that is not in it.

        Whoever asks has taken the partition over: what another was writing when it died is removed.
        """
        folder = self._directory / str(partition)
        for draft in folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)
        for path in sorted(self._found(folder), reverse=True):
            try:
                return self._read(path, partition, earliest)
            except (Unusable, OSError, InvalidTag, ValueError, KeyStoreError) as error:
                why = str(error) if isinstance(error, Unusable) else _why(error)
                log.warning("a checkpoint of partition %d is passed over: %s", partition, why)
        return None

    def sweep(self) -> None:
        """Removes those of which a window's key is destroyed: nobody can read them, and nobody shall keep them."""
        for folder in self._directory.iterdir():
            for path in self._found(folder):
                with suppress(OSError, ValueError, KeyStoreError):  # then whoever reads it says so
                    names = [file.name for file in path.iterdir() if file.name != _STATE]
                    if any(self._keys.window(window_named(name)) is None for name in names):
                        shutil.rmtree(path, ignore_errors=True)

    def _fill(self, draft: Path, state: PartitionState, offset: int) -> None:
        common = msgspec.msgpack.encode(save(state, self._identity, offset))
        _write(draft / _STATE, common)
        for window in state.windows:
            key = self._keys.window(window)
            if key is None:
                raise OSError("a window's key is destroyed")
            nonce = secrets.token_bytes(_NONCE)
            data = msgspec.msgpack.encode(save_window(state, window))
            _write(draft / window.name, nonce + AESGCMSIV(key.checkpoint).encrypt(nonce, data, common))
        _sync(draft)

    def _read(self, path: Path, partition: int, earliest: int) -> tuple[PartitionState, int]:
        common = (path / _STATE).read_bytes()
        saved = msgspec.msgpack.decode(common, type=SavedPartition)
        if (saved.format, saved.shape) != (FORMAT, shape_of(self._plan)):
            raise Unusable("another version wrote it, or under other declarations")
        if (saved.log, saved.partition) != (self._identity, partition):
            raise Unusable("it is of another log")
        if saved.offset < earliest:
            raise Unusable("the log begins after it")
        windows = {}
        for name in saved.windows:
            window = window_named(name)
            key = self._keys.window(window)
            if key is None:
                raise Unusable("a window in it was released")
            sealed = (path / name).read_bytes()
            data = AESGCMSIV(key.checkpoint).decrypt(sealed[:_NONCE], sealed[_NONCE:], common)
            windows[window] = msgspec.msgpack.decode(data, type=SavedWindow)
        return restore(saved, windows, self._plan, bounded=self._bounded), saved.offset

    def _remove(self, folder: Path, before: int) -> None:
        for path in self._found(folder):
            if int(path.name) < before:
                shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def _found(folder: Path) -> list[Path]:
        return [path for path in folder.glob("*") if path.name.isdecimal()] if folder.is_dir() else []


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why(error: Exception) -> str:
    """The class, and what the system calls it; a text could name what is in the files."""
    return (
        f"{type(error).__name__}{f': {os.strerror(error.errno)}' if isinstance(error, OSError) and error.errno else ''}"
    )
