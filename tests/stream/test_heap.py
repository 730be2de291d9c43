"""What is free is given back to the system (``stream.heap``)."""

import os
import platform
import subprocess
import sys

import pytest

from pipeline.stream.heap import Heap

HALF_USED = """
import resource
import numpy as np
from pipeline.stream.heap import Heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

blocks = [np.ones(8_000) for _ in range(2_000)]  # 128 MB, each too small to be a mapping of its own
del blocks[:-1]  # the last is at the end of the heap, which cannot shrink
seconds = iter([0.0, %s])
heap, before = Heap(seconds.__next__), resident()
heap.give_back(60)
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps what is free")
@pytest.mark.parametrize(("used", "given"), [(3.0, True), (30.0, False)])
def test_what_is_free_is_given_back_unless_the_worker_is_busy(used: float, given: bool) -> None:
    script = [sys.executable, "-c", HALF_USED % used]
    found = subprocess.run(script, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert (int(found.stdout) > 100_000_000) == given


def test_a_worker_that_was_busy_gives_back_once_it_is_not() -> None:
    seconds = iter([100.0, 130.0, 131.0])
    heap = Heap(seconds.__next__)
    assert [heap.give_back(60), heap.give_back(60)] == [False, True]
