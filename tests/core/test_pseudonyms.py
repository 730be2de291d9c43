"""Keyed hashes that stand for a subject in one window and nowhere else."""

import gc
import weakref
from collections import Counter
from hashlib import blake2b

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC

from pipeline.core import pseudonyms
from pipeline.core.dictionaries import Dictionary
from pipeline.core.pseudonyms import KEY_BYTES, PSEUDONYM_BYTES, SEAL_BYTES, Router, WindowKey
from pipeline.core.texts import Texts
from pipeline.core.windows import window_of
from pipeline.testing import MemoryKeyStore

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def identity_of(*parts: tuple[str | None, str, str]) -> list[Texts]:
    return [Texts.of(column) for column in zip(*parts, strict=True)]


def token_of(key: WindowKey, subject: str | None, source: str, event_id: str, route: bytes = KEY) -> bytes:
    return key.tokens(Router(route, 1).digests(identity_of((subject, source, event_id)))).tobytes()


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        WindowKey(bytes(length))


def test_a_key_that_is_let_go_of_is_gone_at_once_and_waits_for_no_collector() -> None:
    key, subjects = WindowKey(KEY), Dictionary(1)
    key.pseudonyms(subjects, subjects.codes(Texts.of(["u-1", None])))
    key.unseal("feature", key.seal("feature", "search"))
    token_of(key, "u-1", "app", "e-1")
    gone = weakref.ref(key)
    gc.disable()
    try:
        del key
        assert gone() is None
    finally:
        gc.enable()


def test_a_pseudonym_is_a_keyed_hash_of_the_subject() -> None:
    expected = blake2b(b"u-1", key=KEY, digest_size=16, person=b"hc-pseudonym").digest()
    assert WindowKey(KEY).pseudonym("u-1") == expected
    assert len(expected) == PSEUDONYM_BYTES


def test_a_pseudonym_is_the_same_under_its_key_and_another_under_any_other() -> None:
    key = WindowKey(KEY)
    assert key.pseudonym("u-1") == key.pseudonym("u-1") == WindowKey(KEY).pseudonym("u-1")
    assert key.pseudonym("u-1") != key.pseudonym("u-2")
    assert key.pseudonym("u-1") != WindowKey(OTHER).pseudonym("u-1")


def test_subjects_that_look_alike_are_different() -> None:
    key = WindowKey(KEY)
    alike = ["u", "u ", "U", "u\0", "ｕ", "é", "e\u0301"]
    assert len({key.pseudonym(subject) for subject in alike}) == len(alike)


def test_every_use_of_a_key_has_a_person_string_of_its_own() -> None:
    """BLAKE2b's personalisation (RFC 7693, 2.8) keeps the uses apart, whatever text goes in."""

    def derived(person: bytes, text: bytes, size: int) -> bytes:
        return blake2b(text, key=KEY, digest_size=size, person=person).digest()

    blocks = [bytes([3, 0, 3, 0, 3]), b"u-1", b"app", b"e-1"]
    mac = CMAC(AES(derived(b"hc-event", b"", 32)))
    mac.update(b"".join(block.ljust(16, b"\0") for block in blocks))
    digest = mac.finalize()
    assert Router(KEY, 1).digests(identity_of(("u-1", "app", "e-1"))).tobytes() == digest
    token = Cipher(AES(derived(b"hc-token", b"", 32)), ECB()).encryptor().update(digest)  # noqa: S305
    assert token_of(WindowKey(KEY), "u-1", "app", "e-1") == token[:8]
    assert Router(KEY, 2**64).partition("u-1") == int.from_bytes(derived(b"hc-route", b"u-1", 8), "big")
    padded = b"x".ljust(48, b"\0")
    assert WindowKey(KEY).seal("feature", "x") == AESSIV(derived(b"hc-seal", b"", 64)).encrypt(padded, [b"feature"])


def test_a_token_depends_on_every_part_and_on_where_one_ends() -> None:
    key = WindowKey(KEY)
    parts = [
        ("s", "a", "1"),
        ("t", "a", "1"),
        ("s", "b", "1"),
        ("s", "a", "2"),
        ("sa", "", "1"),
        ("s" * 16, "a", "1"),
        ("s", "a1", "11"),
        (None, "a", "1"),
        (None, "a", "1" * 33),
    ]
    tokens = [token_of(key, *each) for each in parts]
    assert len(set(tokens)) == len(parts)
    assert {len(token) for token in tokens} == {8}
    assert key.tokens(Router(KEY, 1).digests(identity_of(*parts))).tobytes() == b"".join(tokens)
    one = ("s", "a", "1")
    assert token_of(key, *one) == token_of(WindowKey(KEY), *one) != token_of(WindowKey(OTHER), *one)
    assert token_of(key, *one) != token_of(key, *one, route=OTHER)


@pytest.mark.parametrize("value", ["x", "a" * 48, "4.12", "other", "ü.1"])
def test_what_was_sealed_can_be_opened_with_the_key(value: str) -> None:
    sealed = WindowKey(KEY).seal("feature", value)
    assert WindowKey(KEY).unseal("feature", sealed) == value
    assert value.encode() not in sealed


def test_the_length_of_a_sealed_value_says_nothing() -> None:
    key = WindowKey(KEY)
    assert {len(key.seal("feature", "x" * n)) for n in range(1, 49)} == {SEAL_BYTES}


def test_equal_values_of_one_field_and_window_are_equal_when_sealed_and_no_others() -> None:
    key = WindowKey(KEY)
    assert key.seal("feature", "x") == key.seal("feature", "x") == WindowKey(KEY).seal("feature", "x")
    others = {key.seal("feature", "y"), key.seal("screen", "x"), WindowKey(OTHER).seal("feature", "x")}
    assert len(others | {key.seal("feature", "x")}) == 4


@pytest.mark.parametrize("change", ["key", "field", "bit", "length"])
def test_what_was_not_sealed_so_cannot_be_opened(change: str) -> None:
    sealed = WindowKey(KEY).seal("feature", "x")
    key = WindowKey(OTHER if change == "key" else KEY)
    field = "screen" if change == "field" else "feature"
    broken = {"bit": bytes([sealed[0] ^ 1]) + sealed[1:], "length": sealed[:-1]}.get(change, sealed)
    with pytest.raises(InvalidTag):
        key.unseal(field, broken)


def test_caches_stay_small_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "_CACHE", 3)
    key, fresh, router, subjects = WindowKey(KEY), WindowKey(KEY), Router(KEY, 5), Dictionary(7, most=3)
    for i in [*range(20), 0, 1]:
        subjects.forget()
        codes = subjects.codes(Texts.of([f"u-{i}", None]))
        assert key.pseudonyms(subjects, codes).tobytes() == fresh.pseudonym(f"u-{i}") + bytes(16)
        assert router.partitions(subjects, codes)[0] == Router(KEY, 5).partition(f"u-{i}")
        assert key.seal("feature", f"f-{i}") == fresh.seal("feature", f"f-{i}")
        held = [len(value) for value in vars(key).values() if isinstance(value, dict)]
        assert max(*held, len(subjects.texts) - 2) <= 3


def test_subjects_are_spread_evenly_over_the_partitions() -> None:
    router = Router(KEY, 4)
    met = Counter(router.partition(f"u-{i}") for i in range(4000))
    assert sorted(met) == [0, 1, 2, 3]
    assert all(850 < n < 1150 for n in met.values())


def test_a_subject_is_routed_by_the_key_alone() -> None:
    subjects = [f"u-{i}" for i in range(9)]

    def routed(key: bytes) -> list[int]:
        return list(map(Router(key, 64).partition, subjects))

    assert routed(KEY) == routed(KEY) != routed(OTHER)


def test_events_that_are_nobodys_are_spread_by_what_they_are() -> None:
    router = Router(KEY, 4)
    identity = identity_of(*((None, "app", f"e-{i}") for i in range(4000)))
    found = router.partitions_of_events(router.digests(identity)).tolist()
    assert found == router.partitions_of_events(Router(KEY, 4).digests(identity)).tolist()
    assert sorted(Counter(found)) == [0, 1, 2, 3]
    assert all(850 < n < 1150 for n in Counter(found).values())


def test_windows_have_keys_of_their_own() -> None:
    keys = MemoryKeyStore("seed")
    windows = [window_of(kind, day) for kind in ("day", "week", "month") for day in (100, 200)]
    found = [keys.window(window) for window in windows]
    assert len({key.pseudonym("u-1") for key in found if key is not None}) == 6
    assert len(keys.route()) == KEY_BYTES


def test_a_destroyed_key_never_comes_back() -> None:
    keys, window = MemoryKeyStore("seed"), window_of("day", 100)
    before = keys.window(window)
    assert before is not None
    assert keys.window(window) is before
    keys.destroy(window)
    assert keys.window(window) is None
    keys.destroy(window)
    assert keys.window(window) is None
    assert keys.window(window_of("day", 101)) is not None


def test_a_key_can_be_destroyed_before_it_was_ever_asked_for() -> None:
    keys = MemoryKeyStore("seed")
    keys.destroy(window_of("day", 100))
    assert keys.window(window_of("day", 100)) is None
