"""Small worlds: a handful of subjects, features and days, so that everything that can meet does."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from pipeline.core.events import Record
from pipeline.core.tallies import Tally
from pipeline.testing import Delivery, Form, declarations, event, record

Event = dict[str, Any]
T = TypeVar("T")

DECLARED = declarations()
SHOW_ALL = declarations(delta=1.0, max_epsilon=1e9)  # the shipped bounds, and nothing is held back
SINCE, UNTIL = date(2026, 4, 28), date(2026, 5, 6)  # parts of two months, and of two weeks, one of which is in both
DAYS = ("2026-04-28", "2026-04-30", "2026-05-01", "2026-05-03", "2026-05-04", "2026-05-05")
SUBJECTS = ("subject-1", "subject-2", "subject-3", "subject-4")


def examples(n: int) -> Callable[[T], T]:
    """So many examples, whatever the machine's speed."""
    return settings(max_examples=n, deadline=None)  # type: ignore[return-value]


def events(
    *, subjects: Sequence[str | None] = (*SUBJECTS, None), least: int = 0, most: int = 30
) -> st.SearchStrategy[list[Event]]:
    """Events with ids of their own."""
    one = st.fixed_dictionaries(
        {
            "subject": st.sampled_from(subjects),
            "time": st.builds("{}T{:02d}:30:00Z".format, st.sampled_from(DAYS), st.integers(0, 23)),
            "feature": st.sampled_from(("a", "b", "c", "d", "e")),
            "platform": st.sampled_from(("ios", "web", "toaster")),
            "duration_ms": st.sampled_from((None, 5, 5000)),
            "app_version": st.sampled_from(("1.0", "2.0", None)),
        }
    )
    return st.lists(one, min_size=least, max_size=most).map(
        lambda drawn: [event(id=f"id-{i}", **each) for i, each in enumerate(drawn)]
    )


@st.composite
def deliveries(
    draw: st.DrawFn,
    contents: Sequence[Event | bytes],
    sources: int = 1,
    forms: Sequence[Form] = ("ndjson", "batch", "bare"),
) -> list[Delivery]:
    """The contents cut into records, dealt to source partitions, fetched in batches, and some batches fetched again."""
    dealt: list[list[Record]] = [[] for _ in range(sources)]
    rest = list(contents)
    while rest:
        n = draw(st.integers(1, 8))
        source = draw(st.integers(0, sources - 1))
        dealt[source].append(record(*rest[:n], form=draw(st.sampled_from(forms)), offset=len(dealt[source])))
        rest = rest[n:]
    given: list[Delivery] = []
    waiting = {source: (0, records) for source, records in enumerate(dealt) if records}
    while waiting:
        source = draw(st.sampled_from(sorted(waiting)))
        at, records = waiting[source]
        end = draw(st.integers(at + 1, len(records)))
        given.append(Delivery(source, records[at:end]))
        # A worker that stopped before its offset was committed reads on from an earlier one.
        at = draw(st.integers(0, end)) if draw(st.integers(0, 3)) == 0 else end
        waiting[source] = (at, records)
        if at == len(records):
            del waiting[source]
    return given


def content(tallies: Iterable[Tally]) -> dict[tuple[str, int], Any]:
    """What tallies say, without the order of the cells in them."""
    return {
        (tally.window, tally.partition): (
            tally.accepted,
            {
                name: (
                    {c: counts for c, *counts in zip(s.cells, s.users, s.events, strict=True)},
                    s.total_users,
                    s.total_events,
                )
                for name, s in tally.statistics.items()
            },
        )
        for tally in tallies
    }
