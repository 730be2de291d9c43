"""Keyed hashes that stand for a subject: one per window, under the window's own key, gone when the key is.

Keyed BLAKE2b (RFC 7693) with a person string per use, so that no two uses of a key ever share an output; inputs of
several parts begin with their lengths. Values of open dimensions are sealed with AES-SIV (RFC 5297): equal values of
one window stay equal, and only who holds the window's key can read them. A window's key is 32 random bytes; nothing is
derived from a date or from another window's key.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from pipeline.core.windows import Window

K = TypeVar("K")
V = TypeVar("V")

KEY_BYTES = 32
PSEUDONYM_BYTES = 16
SEAL_BYTES = 16 + 48  # the tag and the padded value: the length of a value says nothing
_CACHE = 200_000  # entries per window


class Cache(dict[K, V]):
    """What was worked out for each key, forgotten when there is too much of it. Holds nothing but the function."""

    def __init__(self, work_out: Callable[[K], V]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, key: K) -> V:
        if len(self) >= _CACHE:
            self.clear()
        found = self[key] = self._work_out(key)
        return found


class WindowKey:
    """What one window's key can do. Caches are bounded and die with the object."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a window's key has 32 bytes")
        hashed = blake2b(key=key, digest_size=PSEUDONYM_BYTES, person=b"hc-pseudonym")
        self._pseudonyms = Cache(partial(_hash, hashed))
        self._token = blake2b(key=key, digest_size=8, person=b"hc-token")
        self._seal = AESSIV(blake2b(key=key, digest_size=64, person=b"hc-seal").digest())
        self.checkpoint = blake2b(key=key, digest_size=32, person=b"hc-checkpoint").digest()  # what seals its state
        self._seals = Cache(partial(_seal, self._seal))

    def pseudonym(self, subject: str) -> bytes:
        """16 bytes that stand for the subject in this window and nowhere else."""
        return self._pseudonyms[subject]

    def pseudonyms(self, subjects: Iterable[str | None]) -> bytes:
        """:meth:`pseudonym` of each, one after the other; zeros for nobody."""
        return b"".join(map(self._pseudonyms.__getitem__, subjects))

    def tokens(self, identities: Iterable[bytes]) -> bytes:
        """8 bytes for each event's :func:`~pipeline.core.events.identity`, which two deliveries of one event share.
        The subject is in it: nobody's event can hide somebody else's.
        """
        fresh, found = self._token.copy, []
        for identity in identities:
            state = fresh()
            state.update(identity)
            found.append(state.digest())
        return b"".join(found)

    def seal(self, field: str, value: str) -> bytes:
        """The value of an open dimension, readable by the window's key only. At most 48 bytes of UTF-8."""
        return self._seals[field, value]

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
        hashed = blake2b(key=key, digest_size=8, person=b"hc-route")
        self._route = partial(_route, hashed, partitions)
        self._known = Cache(partial(_route_of_subject, self._route))

    def partitions(self, subjects: Iterable[str | None]) -> Iterator[int]:
        """The partition of each subject; any one for nobody."""
        return map(self._known.__getitem__, subjects)

    def partition(self, identity: bytes) -> int:
        """The partition of an event that is nobody's; it does not come again, and is not remembered."""
        return self._route(identity)


def _hash(hashed: blake2b, subject: str | None) -> bytes:
    if subject is None:
        return bytes(PSEUDONYM_BYTES)
    state = hashed.copy()
    state.update(subject.encode())
    return state.digest()


def _route_of_subject(route: Callable[[bytes], int], subject: str | None) -> int:
    return 0 if subject is None else route(subject.encode())


def _route(hashed: blake2b, partitions: int, name: bytes) -> int:
    state = hashed.copy()
    state.update(name)
    return int.from_bytes(state.digest(), "big") % partitions


def _seal(seal: AESSIV, what: tuple[str, str]) -> bytes:
    field, value = what
    return seal.encrypt(value.encode().ljust(SEAL_BYTES - 16, b"\0"), [field.encode()])
