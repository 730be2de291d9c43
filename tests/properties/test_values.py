"""Windows, generalised values and wire formats."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.contributions import (
    Contributions,
    Progress,
    WindowColumns,
    decode_contribution,
    encode_contribution,
)
from pipeline.core.dictionaries import Dictionary
from pipeline.core.fields import OTHER, generalise
from pipeline.core.outcomes import Reason
from pipeline.core.pseudonyms import SEAL_BYTES, Router, WindowKey
from pipeline.core.release import Release, ReleasedDimension, ReleasedMeasure, decode_release, encode_release
from pipeline.core.texts import Texts
from pipeline.core.windows import KINDS, Calendar, Kind, date_of, day_of, window_named, window_of, windows_between

from .worlds import DECLARED, examples

DAYS = st.integers(-300_000, 900_000)
FIELDS = DECLARED.registry.fields
TEXTS = (
    st.text(max_size=60)
    | st.from_regex(r"[a-z0-9_.@ -]{0,50}", fullmatch=True)
    | st.from_regex(r"v?\d{1,5}([.+-]\d{0,4}){0,3}")
)


@examples(150)
@given(st.sampled_from(KINDS), DAYS)
def test_windows_partition_the_days(kind: Kind, day: int) -> None:
    window = window_of(kind, day)
    assert window.start <= day < window.end
    assert {window_of(kind, d) for d in range(window.start, window.end)} == {window}
    assert window_of(kind, window.end).start == window.end
    assert window_of(kind, window.start - 1).end == window.start
    assert window_named(window.name) == window


@examples(100)
@given(st.sampled_from(KINDS), DAYS, st.integers(0, 200))
def test_windows_between_two_days_hold_each_of_them_once(kind: Kind, since: int, n: int) -> None:
    found = list(windows_between(kind, since, since + n))
    assert all(one.end == other.start for one, other in pairwise(found))
    covered = [day for window in found for day in range(window.start, window.end)]
    assert len(set(covered)) == len(covered)
    assert set(range(since, since + n)) <= set(covered)
    assert all(window.end > since and window.start < since + n for window in found)


@examples(120)
@given(DAYS)
def test_dates_and_days_are_two_names_of_one_thing(day: int) -> None:
    assert day_of(date_of(day)) == day


@examples(100)
@given(st.sampled_from(["UTC", "Europe/Amsterdam", "America/New_York", "Pacific/Apia"]), st.floats(31_536_000, 4e9))
def test_a_later_instant_is_never_on_an_earlier_day(zone: str, seconds: float) -> None:
    calendar = Calendar(zone)
    day = calendar.day(seconds)
    assert calendar.start(day) <= seconds < calendar.start(day + 1)
    assert calendar.day(seconds + 1) - day in (0, 1, 2)  # Apia had no 30 December 2011


@examples(250)
@given(st.sampled_from(["feature", "platform", "app_version", "country", "plan"]), TEXTS)
def test_generalising_again_changes_nothing(name: str, value: str) -> None:
    once = generalise(FIELDS[name], value)
    assert once is not None
    if not isinstance(once, Reason):
        assert generalise(FIELDS[name], once) == once
        assert len(once.encode()) <= SEAL_BYTES - 16
        assert FIELDS[name].open or once in FIELDS[name].declared


@examples(120)
@given(TEXTS)
def test_a_version_is_two_numbers_or_other(value: str) -> None:
    found = generalise(FIELDS["app_version"], value)
    assert isinstance(found, str)
    assert found == OTHER or all(part.isascii() and str(int(part)) == part for part in found.split("."))


@examples(120)
@given(st.integers(0, 10**30))
def test_a_duration_falls_into_one_declared_bucket(value: int) -> None:
    field = FIELDS["duration_ms"]
    found = generalise(field, value)
    place = field.labels.index(found)  # type: ignore[arg-type]
    assert field.edges[place] <= value
    assert place + 1 == len(field.edges) or value < field.edges[place + 1]


KEY = WindowKey(bytes(range(32)))
IDENTITIES = st.tuples(st.text(), st.text(), st.text(min_size=1))
SEALABLE = st.text(max_size=48).filter(lambda text: len(text.encode()) <= 48 and not text.endswith("\0"))


@examples(120)
@given(st.sampled_from(["feature", "app_version"]), SEALABLE)
def test_sealing_can_be_undone(name: str, value: str) -> None:
    sealed = KEY.seal(name, value)
    assert len(sealed) == SEAL_BYTES
    assert KEY.unseal(name, sealed) == value


@examples(120)
@given(IDENTITIES, IDENTITIES)
def test_tokens_of_two_events_differ(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    digests = Router(bytes(32), 1).digests([Texts.of(column) for column in zip(one, other, strict=True)])
    assert (len(set(KEY.tokens(digests).tolist())) == 1) == (one == other)


@examples(100)
@given(st.text(min_size=1, max_size=256), st.integers(1, 64))
def test_a_subject_has_one_partition(subject: str, partitions: int) -> None:
    router, subjects = Router(bytes(32), partitions), Dictionary(7)
    [found, again] = router.partitions(subjects, subjects.codes(Texts.of([subject, subject])))
    assert 0 <= found < partitions
    assert found == again == router.partition(subject) == Router(bytes(32), partitions).partition(subject)


@st.composite
def contributions(draw: st.DrawFn) -> Contributions:
    rows = draw(st.integers(0, 5))
    windows = draw(st.lists(st.tuples(DAYS, st.integers(0, 1)), max_size=4))
    values = draw(st.lists(st.lists(st.tuples(DAYS, st.binary(max_size=64)), max_size=4), min_size=2, max_size=2))
    return Contributions(
        draw(st.integers(0, 2**31)),
        draw(st.integers(0, 2**62)),
        np.array(draw(st.lists(st.integers(0, 2**62), min_size=rows, max_size=rows)), dtype="<i8").tobytes(),
        np.arange(rows, dtype="<i4").tobytes(),
        draw(st.binary(min_size=8 * rows, max_size=8 * rows)),
        bytes(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))),
        [
            WindowColumns(
                kind, draw(st.binary(min_size=16 * rows, max_size=16 * rows)), windows, values, bytes(12 * rows)
            )
            for kind in KINDS
        ],
    )


PROGRESS = st.builds(Progress, st.integers(0, 99), st.integers(1, 99), DAYS, st.none() | DAYS, st.none() | DAYS)


@examples(100)
@given(contributions() | PROGRESS)
def test_contributions_survive_the_wire(contribution: Contributions | Progress) -> None:
    found = decode_contribution(encode_contribution(contribution))
    assert found == contribution
    if isinstance(found, Contributions):
        assert all(columns.words().shape == (found.rows, 2) for columns in found.windows)
        assert all(columns.places().shape == (3, found.rows) for columns in found.windows)


NUMBERS = st.floats(0, 1e12)
RELEASES = st.builds(
    Release,
    statistic=st.text(),
    description=st.text(),
    window=st.sampled_from(KINDS),
    start=st.text(),
    end=st.text(),
    number=st.integers(1, 9),
    policy=st.text(),
    protects=st.booleans(),
    dimensions=st.lists(st.builds(ReleasedDimension, name=st.text(), kind=st.sampled_from(["catalogue", "open"]))).map(
        tuple
    ),
    measures=st.lists(
        st.builds(ReleasedMeasure, name=st.just("users"), sigma=NUMBERS, bound=st.integers(1, 9), rho=NUMBERS)
    ).map(tuple),
    max_cells=st.integers(1, 9),
    rho=NUMBERS,
    epsilon=st.none() | NUMBERS,
    delta=st.floats(1e-30, 1),
    contact=st.text(),
    cells=st.lists(st.lists(st.text(), max_size=2).map(tuple), max_size=3),
    values=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3), max_size=2),
    total=st.none() | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
)


@examples(30)
@given(RELEASES)
def test_releases_survive_the_wire(release: Release) -> None:
    assert decode_release(encode_release(release)) == release
