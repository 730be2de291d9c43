"""Keyed hashes that stand for a subject: one per window, under the window's own key, gone when the key is.

Keyed BLAKE2b (RFC 7693) with a person string per use, so that no two uses of a key ever share an output; inputs of
several parts are length-prefixed. Values of open dimensions are sealed with AES-SIV (RFC 5297): equal values of one
window stay equal, and only who holds the window's key can read them. A window's key is 32 random bytes; nothing is
derived from a date or from another window's key.
"""

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from pipeline.core.windows import Window

KEY_BYTES = 32
PSEUDONYM_BYTES = 16
SEAL_BYTES = 16 + 48  # the tag and the padded value: the length of a value says nothing
_CACHE = 200_000  # entries per window
_LENGTHS = Struct(">III").pack


class WindowKey:
    """What one window's key can do. Caches are bounded and die with the object."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a window's key has 32 bytes")
        self._hash = blake2b(key=key, digest_size=PSEUDONYM_BYTES, person=b"hc-pseudonym")
        self._token = blake2b(key=key, digest_size=8, person=b"hc-token")
        self._seal = AESSIV(blake2b(key=key, digest_size=64, person=b"hc-seal").digest())
        self.checkpoint = blake2b(key=key, digest_size=32, person=b"hc-checkpoint").digest()  # what seals its state
        self._pseudonyms: dict[str, bytes] = {}
        self._seals: dict[tuple[str, str], bytes] = {}

    def pseudonym(self, subject: str) -> bytes:
        """16 bytes that stand for the subject in this window and nowhere else."""
        known = self._pseudonyms.get(subject)
        if known is None:
            if len(self._pseudonyms) >= _CACHE:
                self._pseudonyms.clear()
            state = self._hash.copy()
            state.update(subject.encode())
            known = self._pseudonyms[subject] = state.digest()
        return known

    def tokens(self, events: Iterable[tuple[str | None, str, str]]) -> bytes:
        """8 bytes for each (subject, source, id), which two deliveries of one event share. The subject is in it:
        nobody's event can hide somebody else's.
        """
        fresh, found = self._token.copy, []
        for subject, source, event_id in events:
            who, where, which = (subject or "").encode(), source.encode(), event_id.encode()
            state = fresh()
            state.update(_LENGTHS(len(who), len(where), len(which)) + who + where + which)
            found.append(state.digest())
        return b"".join(found)

    def seal(self, field: str, value: str) -> bytes:
        """The value of an open dimension, readable by the window's key only. At most 48 bytes of UTF-8."""
        known = self._seals.get((field, value))
        if known is None:
            if len(self._seals) >= _CACHE:
                self._seals.clear()
            padded = value.encode().ljust(SEAL_BYTES - 16, b"\0")
            known = self._seals[field, value] = self._seal.encrypt(padded, [field.encode()])
        return known

    def unseal(self, field: str, sealed: bytes) -> str:
        """The inverse of :meth:`seal`. Raises ``cryptography.exceptions.InvalidTag`` for anything else."""
        return self._seal.decrypt(sealed, [field.encode()]).rstrip(b"\0").decode()


class KeyStore(Protocol):
    """Holds the windows' keys. A window has one key, drawn when it is first asked for; destroyed is for ever."""

    def window(self, window: Window) -> WindowKey | None:
        """The window's key; ``None`` once it was destroyed."""

    def destroy(self, window: Window) -> None:
        """Destroys the window's key. After that nobody can link what was recorded under it."""

    def route(self) -> bytes:
        """The key that rows are routed by. It outlives the windows."""


class Router:
    """Sends all that a subject does to one partition, by a keyed hash of which only that much is ever used."""

    def __init__(self, key: bytes, partitions: int) -> None:
        self._hash = blake2b(key=key, digest_size=8, person=b"hc-route")
        self._partitions = partitions
        self._known: dict[str, int] = {}

    def partition(self, subject: str) -> int:
        """The partition of a subject."""
        known = self._known.get(subject)
        if known is None:
            if len(self._known) >= _CACHE:
                self._known.clear()
            state = self._hash.copy()
            state.update(subject.encode())
            known = self._known[subject] = int.from_bytes(state.digest(), "big") % self._partitions
        return known
