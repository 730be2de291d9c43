"""``python -m tests.faults [--full] [FAULT…]``: prints one table and writes ``var/faults.json``."""

import argparse
import json
import shutil
import sys
import time
import traceback
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.deployment.files import ROOT
from tests.faults.table import FAULTS, Fault, new_seed

RESULTS = ROOT / "var" / "faults.json"


def run_one(fault: Fault, times: int, *, report: Any) -> dict[str, Any]:
    """All runs of a fault; stops at the first that does not hold, and keeps what that one left behind."""
    began, done, details = time.monotonic(), 0, []
    while done < times:
        share, seed = min(fault.at_once, times - done), new_seed() // 3 * 3 + done // fault.at_once % 3
        directory = Path(mkdtemp(prefix="headcount-fault-"))
        try:
            details.append(fault.run(fault, directory, seed, share))
        except Exception as error:  # whatever it is, it is what was found
            traceback.print_exc()
            detail = f"run {done // fault.at_once + 1}, seed {seed}: {type(error).__name__}: {error} (see {directory})"
            return {"fault": fault.name, "runs": done + share, "ok": False, "detail": detail}
        shutil.rmtree(directory, ignore_errors=True)
        done += share
        report(fault, done)
    seconds = time.monotonic() - began
    detail = "; ".join(dict.fromkeys(filter(None, details)))
    return {"fault": fault.name, "runs": done, "ok": True, "detail": detail, "seconds": round(seconds)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"of: {', '.join(each.name for each in FAULTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="as often as docs/faults.md says")
    parser.add_argument("--times", type=int, help="another number of times")
    given = parser.parse_args()
    known = {each.name: each for each in FAULTS}
    if unknown := set(given.faults) - set(known):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    chosen = [known[name] for name in given.faults] or FAULTS

    def report(fault: Fault, done: int) -> None:
        print(f"  {fault.name}: {done} done", file=sys.stderr, flush=True)

    results = []
    for fault in chosen:
        times = given.times or (fault.full if given.full else fault.times)
        print(f"{fault.name}: {fault.text}, {times} times …", file=sys.stderr, flush=True)
        results.append(run_one(fault, times, report=report))
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{'fault':18} {'runs':>5}  held  detail")
    for each in results:
        print(f"{each['fault']:18} {each['runs']:5}  {'yes' if each['ok'] else 'NO':4}  {each['detail'][:300]}")
    return 0 if all(each["ok"] for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
