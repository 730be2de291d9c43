"""No identifier leaves the first hop, and no pseudonym the second."""

from base64 import b64encode
from collections.abc import Iterator

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.release import encode_release
from pipeline.core.windows import window_named
from pipeline.testing import MemoryKeyStore, Result, record, run

from .worlds import SHOW_ALL, SINCE, SUBJECTS, UNTIL, Event, events, examples

# Long enough, and strange enough, that they do not occur by chance: Hypothesis tries words of the code itself.
LETTERS = st.text("abcdefghijklmnopqrstuvwxyz0123456789@.+- éß中", min_size=8, max_size=40).map("#{}~§".format)


def spellings(secret: bytes) -> Iterator[bytes]:
    """The secret as it is, in hexadecimal, and in base64 wherever in a longer text it begins."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        whole = b64encode(bytes(before) + secret).rstrip(b"=")
        inner = whole[(4 * before + 2) // 3 : -2]  # the characters that only the secret decides
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


def found(secret: bytes, text: bytes) -> bool:
    return any(spelling in text for spelling in spellings(secret))


def written(result: Result) -> tuple[bytes, bytes]:
    """All that leaves the first hop; all that leaves the second and the third."""
    tallies = b"".join(msgspec.msgpack.encode(tally) + msgspec.json.encode(tally) for tally in result.tallies)
    return b"".join(b"".join(part) for part in result.log), tallies + b"".join(map(encode_release, result.releases))


def named(contents: list[Event], secrets: list[str]) -> list[Event]:
    """The events, with the secrets for subjects, sources and ids."""
    n = len(secrets)
    return [
        each | {"subject": secrets[i % n], "source": secrets[(i + 1) % n], "id": f"{secrets[(i + 2) % n]}/{i}"}
        for i, each in enumerate(contents)
    ]


@examples(25)
@given(events(least=1, most=12), st.lists(LETTERS, min_size=3, max_size=6, unique=True))
def test_nothing_that_identifies_is_in_anything_that_is_sent_on(contents: list[Event], secrets: list[str]) -> None:
    first, later = written(run(SHOW_ALL, [record(*named(contents, secrets))], since=SINCE, until=UNTIL))
    for secret in secrets:
        assert not found(secret.encode(), first + later)


@examples(25)
@given(events(least=1, most=12))
def test_no_pseudonym_is_in_a_tally_or_a_release(contents: list[Event]) -> None:
    keys = MemoryKeyStore("secrecy")
    result = run(SHOW_ALL, [record(*contents)], keys=keys, since=SINCE, until=UNTIL)
    first, later = written(result)
    again = MemoryKeyStore("secrecy")
    keys_of = [again.window(window_named(name)) for name in {tally.window for tally in result.tallies}]
    for subject in {each["subject"] for each in contents} - {None}:
        pseudonyms = [key.pseudonym(subject) for key in keys_of if key is not None]
        assert any(found(pseudonym, first) for pseudonym in pseudonyms)  # where they are, they are found
        for pseudonym in pseudonyms:
            assert not found(pseudonym, later)
            assert not found(pseudonym[:8], later)


@examples(25)
@given(events(subjects=SUBJECTS, least=1, most=12), st.from_regex(r"zq\.[a-z_.-]{11,20}", fullmatch=True))
def test_no_open_value_is_in_the_clear_before_it_is_released(contents: list[Event], feature: str) -> None:
    secret = [each | {"data": each["data"] | {"feature": feature, "app_version": "7321.8642"}} for each in contents]
    result = run(SHOW_ALL, [record(*secret)], since=SINCE, until=UNTIL)
    tallies = b"".join(msgspec.msgpack.encode(tally) for tally in result.tallies)
    before = b"".join(b"".join(part) for part in result.log) + tallies
    assert not found(feature.encode(), before)
    assert not found(b"7321.8642", before)
    assert any(feature.encode() in encode_release(release) for release in result.releases)


@examples(15)
@given(events(least=1, most=12), st.integers(0, 23), st.integers(0, 59))
def test_nothing_that_is_sent_on_depends_on_the_time_of_day(contents: list[Event], hour: int, minute: int) -> None:
    moved = [each | {"time": f"{each['time'][:10]}T{hour:02d}:{minute:02d}:59.5Z"} for each in contents]
    one, other = (run(SHOW_ALL, [record(*part)], since=SINCE, until=UNTIL) for part in (contents, moved))
    assert one.log == other.log


@examples(15)
@given(events(least=1, most=12))
def test_nothing_that_is_sent_on_depends_on_what_is_not_registered(contents: list[Event]) -> None:
    more = [each | {"data": each["data"] | {"email": "x"}, "referrer": "y"} for each in contents]
    one, other = (run(SHOW_ALL, [record(*part)], since=SINCE, until=UNTIL) for part in (contents, more))
    assert one.log == other.log


@examples(20)
@given(events(subjects=("u-1", "u-2"), least=1, most=12))
def test_the_same_ids_of_others_hide_nothing(contents: list[Event]) -> None:
    others = [each | {"subject": "u-3"} for each in contents]
    alone = run(SHOW_ALL, [record(*contents)], since=SINCE, until=UNTIL)
    for order in (others + contents, contents + others):
        both = run(SHOW_ALL, [record(*order)], since=SINCE, until=UNTIL)
        assert both.rejections == ()
        assert both.accepted == 2 * alone.accepted
        for tally in both.releases:
            window = tally.key.split("/")[1]
            if tally.statistic == "active_users":
                more = int(any(alone.counts(tally.statistic, window)[()].values()))
                assert (
                    both.counts(tally.statistic, window)[()]["users"]
                    == alone.counts(tally.statistic, window)[()]["users"] + more
                )


def test_the_search_for_secrets_finds_them() -> None:
    secret = b"subject-17"
    for around in (b"", b"a", b"ab", b"abc"):
        whole = around + secret + b"xyz"
        assert found(secret, whole)
        assert found(secret, b64encode(whole))
        assert found(secret, whole.hex().encode())
    for other in (b"another-17", b"subject-", secret[::-1]):
        assert not any(found(secret, text) for text in (other, b64encode(other), other.hex().encode()))
