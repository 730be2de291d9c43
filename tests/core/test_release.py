"""A release is public for ever and explains itself."""

import json

import msgspec
import pytest

from pipeline.core.release import Release, decode_release, encode_release, release_key
from pipeline.core.windows import window_named
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
