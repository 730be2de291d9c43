"""``make bench``: Headcount beside the ceiling of its client, a consumer written by hand, plain Faust, and its peers.

Everybody reads the same topic of one embedded broker, one after the other, in rounds; whoever gives another answer
than the others ends the run. Writes tests/bench/RESULTS.md and var/bench.json. ``--short`` measures the core alone,
without a broker, and fails where it costs many times what parsing the events costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.bench import emitting, latency, serving, state
from tests.bench.core import check
from tests.bench.events import make_events
from tests.bench.peers import PEERS, python_of
from tests.bench.running import ROOT, Result, contest, count

CEILING = "the ceiling: aiokafka reads and drops"
ONE, MANY = "headcount, one event a record", "headcount, 500 events a record"
EVENTS, SLOW_EVENTS, ROUNDS = 500_000, 20_000, 3
MORE = 10  # times the events, to see whether costs grow with them

NAMES = {
    "handwritten": "written by hand: aiokafka and msgspec",
    "plain_faust": "plain Faust",
    "quix": "quixstreams, state in a dictionary",
    "bytewax_fold": "bytewax, fold_window",
    "pathway_groups": "pathway",
}

Rows = dict[
    str, list[tuple[int, Result, float]]
]  # per contender and round: events, what it cost, the ceiling's events/s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the core alone: for CI")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="beside ours: " + ",".join(NAMES))
    given = parser.parse_args()
    if given.short:
        check()
        return
    (ROOT / "var" / "bench").mkdir(parents=True, exist_ok=True)
    names = [each for each in ("handwritten", "plain_faust", *PEERS) if not given.only or each in given.only.split(",")]
    rows: Rows = defaultdict(list)
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", flush=True)
        play(rows, make_events(given.events, seed=number), names)
    results = summarise(rows)
    sections = [report(results, rows, given.events), state.measure(), emitting.measure()]
    for measure in (serving.measure, latency.measure):
        text, more = measure()
        sections.append(text)
        results += more
    # The last, since it takes the most memory.
    sections.insert(1, growth([each for each in results if each["name"] in (CEILING, ONE, MANY)], given.events))
    (ROOT / "var" / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n".join(sections)
    (ROOT / "tests" / "bench" / "RESULTS.md").write_text(text)
    print(text)


def play(rows: Rows, events: Sequence[bytes], names: Sequence[str]) -> None:
    """One round: everybody once, the ceiling before and after the others."""
    expected = count(events)
    few = events[:SLOW_EVENTS]
    ceilings: list[Result] = []
    played: list[tuple[str, int, Result]] = []
    with contest(events, 1) as one:
        ceilings.append(one.run("ceiling", sys.executable))
        played.extend(
            (name, len(events), agreed(name, one.run(name, python_of(name)), expected))
            for name in names
            if name != "plain_faust"
        )
        played.append((ONE, len(events), agreed(ONE, one.headcount(), expected)))
    with contest(events, 500) as many:
        played.append((MANY, len(events), agreed(MANY, many.headcount(), expected)))
    if "plain_faust" in names:
        with contest(few, 1) as slow:
            played.append(
                ("plain_faust", len(few), agreed("plain_faust", slow.run("plain_faust", sys.executable), count(few)))
            )
    with contest(events, 1) as one:
        ceilings.append(one.run("ceiling", sys.executable))
    ceiling = statistics.mean(len(events) / each.seconds for each in ceilings)
    for each in ceilings:
        rows[CEILING].append((len(events), each, ceiling))
    for name, number, result in played:
        rows[NAMES.get(name, name)].append((number, result, ceiling))


def growth(results: list[dict[str, object]], events: int) -> str:
    """Ours with many more events, one run each, as a section."""
    print(f"{MORE} times the events", flush=True)
    rows: Rows = defaultdict(list)
    play(rows, make_events(MORE * events), [])
    before = {each["name"]: each for each in results}
    lines = [
        f"## {MORE} times the events",
        "",
        f"{MORE * events:,} events, one run each, beside the medians above.",
        "",
        "| | events/s | over those above | peak MB |",
        "|---|---|---|---|",
    ]
    for each in summarise(rows):
        speed = float(str(each["events_per_s"]))
        ratio = speed / float(str(before[each["name"]]["events_per_s"]))
        lines.append(f"| {each['name']} | {speed:,.0f} | {ratio:.2f} | {each['peak_rss_mb']} |")
    return "\n".join([*lines, ""])


def agreed(name: str, result: Result, expected: str) -> Result:
    if result.answer != expected:
        raise SystemExit(f"{name} counted something else than was sent")
    print(f"  {name}: {result.seconds:.1f} s", flush=True)
    return result


def summarise(rows: Rows) -> list[dict[str, object]]:
    """Medians over the rounds."""

    def median(name: str, figure: str) -> float:
        return statistics.median(
            {
                "events_per_s": events / result.seconds,
                "ratio": events / result.seconds / ceiling,
                "cpu_s_per_million": 1e6 * result.cpu_seconds / events,
                "peak_rss_mb": result.peak_rss_mb,
            }[figure]
            for events, result, ceiling in rows[name]
        )

    return [
        {
            "name": name,
            "events_per_s": round(median(name, "events_per_s")),
            "ratio": round(median(name, "ratio"), 3),
            "cpu_s_per_million": round(median(name, "cpu_s_per_million"), 2),
            "peak_rss_mb": round(median(name, "peak_rss_mb")),
        }
        for name in rows
    ]


def report(results: list[dict[str, object]], rows: Rows, events: int) -> str:
    """The same as a page."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [
        "# Results of `make bench`",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.strip()}, {cores()} cores shared with whatever else ran; "
            f"{events:,} events of about 266 bytes in 4 partitions, {len(rows[ONE])} rounds, medians; in brackets the "
            "least and the most."
        ),
        "",
        "| contender | events/s | ratio to the ceiling of its round | CPU s per million | peak MB |",
        "|---|---|---|---|---|",
    ]
    for each in results:
        ratios = [n / r.seconds / ceiling for n, r, ceiling in rows[str(each["name"])]]
        lines.append(
            f"| {each['name']} | {each['events_per_s']:,} "
            f"| {each['ratio']:.2f} ({min(ratios):.2f} - {max(ratios):.2f}) "
            f"| {each['cpu_s_per_million']} | {each['peak_rss_mb']} |"
        )
    return "\n".join([*lines, "", *NOTES, ""])


def cores() -> int:
    return len(os.sched_getaffinity(0))


NOTES = (
    "Everybody counts users and events per day, feature, platform and version, under a pseudonym per day, and all",
    "answers were the same. The peers' examples count by the hour; Headcount's shortest window is the day, so the",
    "clock of the input runs 24 times slower: as many windows, the same work. Time runs from the first event that a",
    "contender is handed until its answer is complete; for Headcount that is the last tally of the last closed window,",
    "both hops through the broker. The ceiling is the same client on the topic of one event a record, before and after",
    f"the others of the round. Plain Faust reads {SLOW_EVENTS:,} events only. quixstreams, bytewax and pathway run in",
    "environments of their own under var/bench, in the versions that tests/bench/peers.py names.",
)

if __name__ == "__main__":
    main()
