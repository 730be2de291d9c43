"""The key-encryption key: where it may be, and wrapping anew under another, which may break off anywhere."""

import base64
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.stream import keystore
from pipeline.stream.keystore import FileKeyStore
from pipeline.stream.keywrapping import KeyStoreError, read_keks
from tests.stream.conftest import KEK
from tests.stream.test_keystore import DAY, mark_of

GOOD = base64.b64encode(KEK).decode()

# What HEADCOUNT_KEK and the file are, the file's mode, and what is said: nothing where it is taken.
KEKS = json.loads("""[
  ["in the environment", "GOOD", null, 0, null],
  ["in a file", "", "GOOD\\n", 384, null],
  ["one of several that is none", "GOOD\\nc2hvcnQ=", null, 0, "32 bytes in base64"],
  ["in a file that only its owner can read", "", "GOOD", 256, null],
  ["the file is preferred", "nonsense", "GOOD", 384, null],
  ["nowhere", "", null, 0, "set HEADCOUNT_KEK_FILE"],
  ["in an empty file", "", "", 384, "set HEADCOUNT_KEK_FILE"],
  ["in a file for the group", "", "GOOD", 416, "chmod 600"],
  ["in a file for the world", "", "GOOD", 420, "chmod 600"],
  ["in a file for the world to write", "", "GOOD", 386, "chmod 600"],
  ["no base64", "!!!", null, 0, "32 bytes in base64"],
  ["no base64, in Greek", "\\u03ba\\u03bb\\u03b5\\u03b9\\u03b4\\u03af", null, 0, "32 bytes in base64"],
  ["too short", "c2hvcnQ=", null, 0, "32 bytes in base64"],
  ["too long", "GOODGOOD", null, 0, "32 bytes in base64"]
]""")


@pytest.mark.parametrize(("name", "text", "content", "mode", "says"), KEKS, ids=[case[0] for case in KEKS])
def test_the_key_encryption_key_is(
    tmp_path: Path, name: str, text: str, content: str | None, mode: int, says: str | None
) -> None:
    settings = replace(Settings(), kek=text.replace("GOOD", GOOD))
    if content is not None:
        path = tmp_path / "kek"
        path.write_text(content.replace("GOOD", GOOD))
        path.chmod(mode)
        settings = replace(settings, kek_file=str(path))
    if says is None:
        assert read_keks(settings) == (KEK,)
        return
    with pytest.raises(KeyStoreError, match=says) as refused:
        read_keks(settings)
    assert not text or text not in str(refused.value)


def test_a_key_encryption_key_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="cannot be read"):
        read_keks(replace(Settings(), kek_file=str(tmp_path / "absent")))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(KeyStoreError, match="32 bytes in base64"):
        read_keks(replace(Settings(), kek_file=str(tmp_path / "binary")))


def test_an_error_quotes_no_key(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path / "keys", KEK)
    wrapped = (tmp_path / "keys" / "route.key").read_bytes()
    failures: list[Callable[[], object]] = [
        lambda: FileKeyStore(tmp_path / "keys", secrets.token_bytes(32)),
        lambda: read_keks(replace(Settings(), kek=GOOD + "AAAA")),
    ]
    for fail in failures:
        with pytest.raises(KeyStoreError) as refused:
            fail()
        text = str(refused.value)
        assert not any(secret in text for secret in (GOOD, store.route().hex(), wrapped.hex(), repr(wrapped)))


STEPS = ("utime", "replace", "fsync of the directory", "overwriting")


@pytest.mark.parametrize("step", STEPS)
def test_wrapping_anew_that_breaks_off_loses_no_key_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old, new = KEK, bytes(32)
    directory = tmp_path / "keys"
    store = FileKeyStore(directory, old)
    route, born, expected = store.route(), store.born(), mark_of(store, DAY)
    both = FileKeyStore(directory, new, old)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        match step:
            case "utime":
                patch.setattr(os, "utime", crash)
            case "replace":
                patch.setattr(Path, "replace", crash)
            case "fsync of the directory":
                patch.setattr(both, "_sync", crash)
            case "overwriting":
                patch.setattr(keystore, "_overwrite", crash)
        with pytest.raises(KeyboardInterrupt):
            both.rotate()
    again = FileKeyStore(directory, new, old)
    assert (again.route(), again.born(), mark_of(again, DAY)) == (route, born, expected)
    again.rotate()
    after = FileKeyStore(directory, new)
    assert (after.route(), after.born(), mark_of(after, DAY)) == (route, born, expected)
    after.destroy(DAY)
    left = {path.name for path in directory.iterdir() if DAY.name in path.name}
    assert left == {f"{DAY.name}.destroyed"}  # no draft of it either


def test_the_bytes_that_were_wrapped_under_the_old_key_are_overwritten(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    store = FileKeyStore(directory, KEK)
    store.window(DAY)
    with (directory / f"{DAY.name}.key").open("rb") as held_open:
        assert FileKeyStore(directory, bytes(32), KEK).rotate() == 2
        content = held_open.read()
    assert content == bytes(len(content)) != b""


def test_a_key_that_is_wrapped_anew_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = FileKeyStore(tmp_path / "keys", bytes(32), KEK)
    expected = mark_of(both, DAY)
    reading = FileKeyStore(tmp_path / "keys", KEK, bytes(32))
    read, overwritten = Path.read_bytes, [True]

    def overwritten_just_before(path: Path) -> bytes:
        content = read(path)
        return bytes(len(content)) if path.name == f"{DAY.name}.key" and overwritten and overwritten.pop() else content

    monkeypatch.setattr(Path, "read_bytes", overwritten_just_before)
    assert mark_of(reading, DAY) == expected
    assert overwritten == []
