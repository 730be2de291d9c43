"""What is free is given back to the system (``stream.heap``)."""

import os
import platform
import subprocess
import sys

import pytest

HALF_USED = """
import resource
import numpy as np
from pipeline.stream.heap import give_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

blocks = [np.ones(8_000) for _ in range(2_000)]  # 128 MB, each too small to be a mapping of its own
del blocks[:-1]  # the last is at the end of the heap, which cannot shrink
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps what is free")
def test_what_is_free_is_given_back() -> None:
    script = [sys.executable, "-c", HALF_USED]
    found = subprocess.run(script, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert int(found.stdout) > 100_000_000
