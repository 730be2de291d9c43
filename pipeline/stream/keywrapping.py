"""How keys are kept: wrapped with AES-GCM-SIV (RFC 8452) under a key-encryption key that is kept somewhere else.

There may be several key-encryption keys: the first wraps, each unwraps. So one can be replaced while windows are open.
"""

import base64
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from pipeline.core.pseudonyms import KEY_BYTES
from pipeline.settings import Settings

_NONCE = 12


class KeyStoreError(RuntimeError):
    """The keys cannot be used; the message says what to do. Nothing is counted without them."""


def read_keks(settings: Settings) -> tuple[bytes, ...]:
    """The key-encryption keys, the one that wraps first. Raises :class:`KeyStoreError` when there is none, or when
    others could read their file.
    """
    text = settings.kek
    if settings.kek_file:
        path = Path(settings.kek_file)
        try:
            mode = path.stat().st_mode
            text = path.read_bytes().decode("ascii", "replace")
        except OSError as error:
            raise KeyStoreError(f"HEADCOUNT_KEK_FILE cannot be read ({type(error).__name__})") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyStoreError("HEADCOUNT_KEK_FILE can be read by others: chmod 600 it, and replace the key")
    if not text.strip():
        raise KeyStoreError(
            "no key-encryption key: set HEADCOUNT_KEK_FILE (or HEADCOUNT_KEK); `headcount kek` prints a new one"
        )
    return tuple(map(_decoded, text.split()))


def new_key() -> bytes:
    """A random key."""
    return secrets.token_bytes(KEY_BYTES)


def _decoded(text: str) -> bytes:
    try:
        kek = base64.b64decode(text, validate=True)
    except ValueError:
        kek = b""
    if len(kek) != KEY_BYTES:
        raise KeyStoreError("the key-encryption key is not 32 bytes in base64; `headcount kek` prints a new one")
    return kek


class Wrapping:
    """Wraps under the first of its key-encryption keys, and unwraps what any of them has wrapped.

    ``place``: where the wrapped key is kept. What was put into another place cannot be unwrapped there.
    """

    def __init__(self, *keks: bytes) -> None:
        self._keks = [AESGCMSIV(kek) for kek in keks]

    def wrap(self, key: bytes, place: str) -> bytes:
        """A nonce and the key under the first; other bytes each time."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._keks[0].encrypt(nonce, key, place.encode())

    def unwrap(self, wrapped: bytes, place: str) -> bytes:
        """The inverse. Raises :class:`KeyStoreError` for what none of them has wrapped for this place."""
        for kek in self._keks:
            with suppress(InvalidTag, ValueError):
                return kek.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], place.encode())
        raise KeyStoreError(
            "a key cannot be unwrapped: the key-encryption key is not the one that it was wrapped under. Put that one "
            "back, or below the new one, until `headcount keys rotate` has been run"
        )

    def current(self, wrapped: bytes, place: str) -> bool:
        """Whether the first has wrapped it."""
        try:
            self._keks[0].decrypt(wrapped[:_NONCE], wrapped[_NONCE:], place.encode())
        except (InvalidTag, ValueError):
            return False
        return True
