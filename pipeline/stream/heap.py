"""Memory that is free goes back to the system. glibc by itself keeps what a burst or a closed window took: a worker that
caught up after an outage would stay as large as it was then.
"""

import ctypes


def give_back() -> None:
    """Every page of the heap that is free, in some milliseconds; nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
