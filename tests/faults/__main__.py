"""``python -m tests.faults [--full] [FAULT…]``: prints one table and writes ``var/faults.json``.

Faults run beside each other, in lanes that have a broker each: most of their time is waiting. What takes long
can be done in parts: ``--into FILE`` keeps what was run, and does what FILE lacks; ``--within`` begins nothing later.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.deployment.files import ROOT
from tests.faults.lanes import Done, run_all
from tests.faults.load import steady_load
from tests.faults.table import FAULTS

RESULTS = ROOT / "var" / "faults.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faults", nargs="*", help=f"of: {', '.join(each.name for each in FAULTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="as often as docs/faults.md says")
    parser.add_argument("--times", type=int, help="another number of times")
    parser.add_argument("--lanes", type=int, default=3, help="how many brokers run faults at once (default: 3)")
    parser.add_argument("--minutes", type=float, default=20, help="of the steady load (default: 20)")
    parser.add_argument("--into", type=Path, help="a file that keeps what was run; what it holds is not run again")
    parser.add_argument("--within", type=float, default=float("inf"), help="seconds after which nothing more begins")
    given = parser.parse_args()
    known = {each.name: each for each in FAULTS}
    known["steady load"] = replace(known["steady load"], run=steady_load(given.minutes))
    if unknown := set(given.faults) - set(known):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    chosen = [known[name] for name in given.faults] or [each for each in FAULTS if each.times]
    times = {each.name: given.times or (each.full if given.full else each.times) or 1 for each in chosen}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    before = [Done(**json.loads(line)) for line in _lines(given.into)]

    def keep(done: Done) -> None:
        print(f"  {done.fault}: {done.runs} {'held' if done.ok else 'DID NOT HOLD'}, {done.seconds:.0f} s", flush=True)
        if given.into:
            with given.into.open("a") as file:
                file.write(json.dumps({**done._asdict(), "commit": _commit()}) + "\n")

    done = before + run_all(chosen, times, before, lanes=given.lanes, within=given.within, keep=keep)
    results = [summary(name, [each for each in done if each.fault == name]) for name in times]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{'fault':26} {'runs':>5} {'of':>5}  held     s  detail")
    for each in results:
        held = "yes" if each["ok"] else "NO" if each["runs"] else "-"
        counts = f"{each['runs']:5} {times[each['fault']]:5}  {held:4} {each['seconds']:5}"
        print(f"{each['fault']:26} {counts}  {each['detail'][:300]}")
    return 0 if all(each["ok"] for each in results) else 1


def summary(name: str, done: list[Done]) -> dict[str, Any]:
    """A fault's row; it holds when every run did, and there was one."""
    wrong = [each for each in done if not each.ok]
    details = dict.fromkeys(each.detail for each in wrong or done if each.detail)
    return {
        "fault": name,
        "runs": sum(each.runs for each in done),
        "ok": bool(done) and not wrong,
        "detail": "; ".join(details),
        "seconds": round(sum(each.seconds for each in done)),
    }


def _lines(path: Path | None) -> list[str]:
    return path.read_text().splitlines() if path and path.exists() else []


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # brokers have ended; what else was forked goes with this process, and waits for nobody
        os._exit(1)
