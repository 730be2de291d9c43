"""Order, batches, repetitions, restarts and partitions do not change what is counted."""

from collections import Counter
from collections.abc import Callable
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.contributions import Progress, encode_contribution
from pipeline.core.ingest import Ingest
from pipeline.core.outcomes import Reason
from pipeline.core.statistics import histogram_labels
from pipeline.core.tallies import FOREVER, Tally
from pipeline.core.windows import KINDS, day_of, window_named, window_of
from pipeline.testing import EXACT, OPEN, MemoryKeyStore, Result, declarations, record, run, tally

from .worlds import DECLARED, SHOW_ALL, SINCE, UNTIL, Event, content, deliveries, events, examples

EXACTLY = declarations(policy=EXACT)


def plainly(contents: list[Event], partitions: int = 2) -> Result:
    return run(SHOW_ALL, [record(*contents)], partitions=partitions, since=SINCE, until=UNTIL)


@examples(20)
@given(st.data(), events())
def test_the_order_and_the_cut_of_deliveries_do_not_matter(data: st.DataObject, contents: list[Event]) -> None:
    sources = data.draw(st.integers(1, 3))
    shuffled = data.draw(st.permutations(contents))
    cut = data.draw(deliveries(shuffled, sources))
    result = run(SHOW_ALL, cut, sources=sources, since=SINCE, until=UNTIL)

    assert content(result.tallies) == content(plainly(contents).tallies)
    assert result.releases == plainly(contents).releases
    assert result.rejections == ()


@examples(25)
@given(st.data(), events(most=20))
def test_an_event_that_is_sent_again_is_counted_once_and_named_a_duplicate(
    data: st.DataObject, contents: list[Event]
) -> None:
    again = data.draw(st.lists(st.sampled_from(contents), max_size=10)) if contents else []
    sources = data.draw(st.integers(1, 3))
    cut = data.draw(deliveries(data.draw(st.permutations(contents + again)), sources))
    result = run(SHOW_ALL, cut, sources=sources, since=SINCE, until=UNTIL)

    assert content(result.tallies) == content(plainly(contents).tallies)
    assert Counter(rejection.reason for rejection in result.rejections) == Counter(
        {Reason.DUPLICATE: len(again)} if again else {}
    )
    assert result.accepted == len(contents)


@examples(25)
@given(events(subjects=("u-1", "u-2", "u-3", "u-4", "u-5")), st.integers(2, 7))
def test_the_number_of_partitions_does_not_matter(contents: list[Event], partitions: int) -> None:
    assert plainly(contents, partitions).releases == plainly(contents, 1).releases


@examples(25)
@given(events(most=6), st.integers(2, 3))
def test_nor_does_it_for_events_without_a_subject(contents: list[Event], partitions: int) -> None:
    assert plainly(contents, partitions).releases == plainly(contents, 1).releases


@examples(25)
@given(st.data(), events(), st.integers(1, 3))
def test_windows_that_close_one_by_one_are_those_that_close_at_the_end(
    data: st.DataObject, contents: list[Event], sources: int
) -> None:
    """Live, words come between the events; the log that they leave, folded again from its beginning, says the same."""
    keys = MemoryKeyStore()
    ingest = Ingest(SHOW_ALL.registry, SHOW_ALL.plan, SHOW_ALL.policy, keys, 1, (day_of(SINCE), day_of(UNTIL)))
    contents = sorted(contents, key=lambda each: each["time"])
    log, offsets = [], [0] * sources
    words = {source: day_of(SINCE) for source in range(sources)}
    for each in contents:
        day = day_of(date.fromisoformat(each["time"][:10]))
        source = data.draw(st.integers(0, sources - 1))
        for other in range(sources):
            if data.draw(st.booleans()) and words[other] < day:  # some sources say late what they have passed
                words[other] = day
                log.append(encode_contribution(Progress(other, sources, day, day_of(SINCE), day_of(UNTIL))))
        found = ingest.ingest(source, [record(each, offset=offsets[source])], OPEN)
        offsets[source] += 1
        log += map(encode_contribution, found.contributions.values())
    log += [encode_contribution(Progress(s, sources, FOREVER, day_of(SINCE), day_of(UNTIL))) for s in range(sources)]
    live, refused = tally(SHOW_ALL, log)

    assert refused == []
    assert content(t for t in live if isinstance(t, Tally)) == content(plainly(contents, 1).tallies)
    assert tally(SHOW_ALL, log) == (live, refused)
    # A worker that takes over in the middle folds from the beginning: it gives out the same again, then goes on.
    middle = data.draw(st.integers(0, len(log)))
    before, _ = tally(SHOW_ALL, log[:middle])
    assert live[: len(before)] == before


def count(contents: list[Event], statistic: str, window: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """The exact counts, worked out one event at a time from the events themselves."""
    declared = EXACTLY.plan.statistics[statistic]
    span = window_named(window)
    users: dict[tuple[str, ...], set[str]] = {}
    n: Counter[tuple[str, ...]] = Counter()
    for each in contents:
        if not span.start <= day_of(date.fromisoformat(each["time"][:10])) < span.end:
            continue
        data = each["data"]
        values = {
            "feature": data["feature"],
            "platform": data["platform"] if data["platform"] != "toaster" else "other",
            "app_version": data["app_version"] or "unknown",
            "duration_ms": {None: None, 5: "under 1 s", 5000: "1-10 s"}[data["duration_ms"]],
        }
        cell = tuple(values[name] for name in declared.dimensions)
        if None not in cell:
            n[cell] += 1  # type: ignore[index]
            users.setdefault(cell, set()).add(each["subject"])  # type: ignore[arg-type]
    return {cell: (len(users[cell]), n[cell]) for cell in n}


def histogram(contents: list[Event], window: str, place: Callable[[int], str]) -> dict[tuple[str, ...], int]:
    span = window_named(window)
    within = [e for e in contents if span.start <= day_of(date.fromisoformat(e["time"][:10])) < span.end]
    per_subject = Counter(each["subject"] for each in within)
    return Counter((place(n),) for n in per_subject.values())


@examples(20)
@given(events(subjects=("u-1", "u-2", "u-3", "u-4")))
def test_without_bounds_and_noise_counts_are_those_of_the_events(contents: list[Event]) -> None:
    result = run(EXACTLY, [record(*contents)], since=SINCE, until=UNTIL)
    edges = DECLARED.plan.statistics["intensity"].histogram
    labels = histogram_labels(edges)
    for release in result.releases:
        window = release.key.split("/")[1]
        found = {cell: tuple(each.values()) for cell, each in result.counts(release.statistic, window).items()}
        if release.statistic == "intensity":
            expected = histogram(contents, window, lambda n: labels[sum(n >= edge for edge in edges) - 1])
            assert {cell: n for cell, (n,) in found.items() if n} == expected
        else:
            exact = count(contents, release.statistic, window)
            assert {cell: each for cell, each in found.items() if any(each)} == {
                cell: both[: len(release.measures)] for cell, both in exact.items()
            }


@examples(20)
@given(events())
def test_the_windows_of_a_declared_span_do_not_depend_on_the_events(contents: list[Event]) -> None:
    declared = {window_of(kind, day).name for kind in KINDS for day in range(day_of(SINCE), day_of(UNTIL))}
    result = plainly(contents)
    assert {t.window for t in result.tallies} == declared
    assert len(result.tallies) == 2 * len(declared)
    assert {release.key.split("/")[1] for release in result.releases} == declared
