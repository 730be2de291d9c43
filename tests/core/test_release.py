"""A release is public for ever and explains itself."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.release import KeySet, Release, decode_release, encode_release, release_key
from pipeline.core.windows import KINDS, window_named, window_of
from pipeline.testing import declarations, event, record, run

RESULT = run(
    declarations(delta=1.0, max_epsilon=1e9), [record(*[event(subject=f"u-{i}", feature="x") for i in range(9)])]
)


@pytest.mark.parametrize("release", RESULT.releases, ids=lambda release: release.key)
def test_a_release_survives_the_wire(release: Release) -> None:
    assert decode_release(encode_release(release)) == release


def test_there_is_one_release_under_a_key() -> None:
    keys = [release.key for release in RESULT.releases]
    assert len(set(keys)) == len(keys) == 18
    assert "feature_use/day-2026-05-01/1" in keys
    assert release_key("feature_use", "day-2026-05-01", 2) == "feature_use/day-2026-05-01/2"


def test_a_keys_window_is_the_releases_window() -> None:
    for release in RESULT.releases:
        window = window_named(release.key.split("/")[1])
        assert (release.window, release.start) == (window.kind, release.key.split("/")[1].partition("-")[2])


KEYS = st.builds(
    lambda statistic, kind, day, number: release_key(statistic, window_of(kind, day).name, number),
    st.sampled_from(["feature_use", "users/active"]),
    st.sampled_from(KINDS),
    st.integers(-400, 400) | st.integers(20_000, 20_400),
    st.integers(1, 3),
)


@given(st.lists(KEYS), st.lists(KEYS))
def test_a_set_of_keys_has_those_that_were_added_and_no_other(added: list[str], asked: list[str]) -> None:
    keys = KeySet()
    for key in added:
        keys.add(key)
    assert [key for key in added + asked if key in keys] == [key for key in added + asked if key in set(added)]


@pytest.mark.parametrize("key", ["", "feature_use", "feature_use/day-2026-05-01", "feature_use/week-2026-05-01/1"])
def test_a_set_of_keys_takes_nothing_else(key: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        KeySet().add(key)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", encode_release(RESULT.releases[0])[:-1]])
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_release(value)


def test_a_release_is_json_that_anyone_can_read() -> None:
    release = json.loads(encode_release(RESULT.release("feature_use", "day-2026-05-01")))
    assert [d["name"] for d in release["dimensions"]] == ["feature", "platform"]
    assert [m["name"] for m in release["measures"]] == ["users", "events"]
    assert release["cells"] == [["x", "web"]]
    assert release["values"] == [[9], [9]]
    assert all(m["sigma"] > 0 and m["bound"] > 0 and m["rho"] > 0 and m["description"] for m in release["measures"])
    assert release["end"] == "2026-05-02"


def test_a_release_of_an_unbounded_cost_is_valid_json_too() -> None:
    from pipeline.testing import EXACT

    (release, *_) = run(declarations(policy=EXACT), [record(event())]).releases
    text = encode_release(release)
    assert b"nan" not in text.lower()
    assert b"inf" not in text.lower()
    assert json.loads(text)["epsilon"] is None
    assert not release.protects
