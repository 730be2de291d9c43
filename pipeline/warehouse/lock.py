"""One projector per directory: a lock that ends with the process that holds it, however it ends."""

import fcntl
import os
from pathlib import Path

from pipeline.warehouse.errors import BusyError


class DirectoryLock:
    """Held from its creation until :meth:`release`. Raises :class:`BusyError`, naming the process that has it."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "projector.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise BusyError(f"another projector (process {holder}) writes to {directory}: end it first") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the next one in. The file stays: without it two processes could lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
