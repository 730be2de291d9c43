"""Environments of the peers, made where they are missing; none of it is among the project's dependencies."""

import subprocess
import sys
from typing import Final

from tests.bench.running import ROOT

PEERS: Final = {
    "quix": ("quixstreams==3.28.1",),
    "bytewax_fold": ("bytewax[kafka]==0.21.1",),
    "pathway_groups": ("pathway==0.33.0",),
}


def python_of(contender: str) -> str:
    """The interpreter for a contender, with what it needs installed."""
    if contender not in PEERS:
        return sys.executable
    directory = ROOT / "var" / "bench" / contender
    python = directory / "bin" / "python"
    done = directory / ".done"
    wanted = " ".join((*PEERS[contender], "msgspec==0.22.0"))
    if not done.exists() or done.read_text() != wanted:
        print(f"  installing {wanted} …", flush=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(directory)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *wanted.split()], check=True)
        done.write_text(wanted)
    return str(python)
