"""Memory that is free goes back to the system. glibc by itself keeps what a burst or a closed window took, and a worker
that caught up after an outage would stay as large as it was then.
"""

import ctypes
import time
from collections.abc import Callable

BUSY = 0.1  # of the time: a worker that is busier needs what is free again at once


class Heap:
    """This process'. ``cpu``: the seconds of processor time that it has used."""

    def __init__(self, cpu: Callable[[], float] = time.process_time) -> None:
        self._cpu = cpu
        self._used = cpu()

    def give_back(self, seconds: float) -> bool:
        """Every page that is free, unless the process was busy in the seconds since the last call; whether it was not.

        Takes some milliseconds. Nothing where the C library is not glibc.
        """
        before, self._used = self._used, self._cpu()
        if self._used - before > BUSY * seconds:
            return False
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        return True
