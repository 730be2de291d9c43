"""Keyed hashes that stand for a subject: one per window, under the window's own key, gone when the key is.

Keyed BLAKE2b (RFC 7693) with a person string per use, so that no two uses of a key ever share an output; events are
told apart by AES-CMAC (:mod:`pipeline.core.macs`). Values of open dimensions are sealed with AES-SIV (RFC 5297): equal
values of one window stay equal, and only who holds the window's key can read them. A window's key is 32 random bytes;
nothing is derived from a date or from another window's key.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from pipeline.core.dictionaries import Dictionary, Lookup
from pipeline.core.macs import Blocks, Mac
from pipeline.core.numbers import Ints, Words
from pipeline.core.texts import Texts
from pipeline.core.windows import Window

K = TypeVar("K")
V = TypeVar("V")

KEY_BYTES = 32
PSEUDONYM_BYTES = 16
SEAL_BYTES = 16 + 48  # the tag and the padded value: the length of a value says nothing
_CACHE = 200_000  # entries per window
_PSEUDONYM = f"V{PSEUDONYM_BYTES}"


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
    """What one window's key can do. Caches are bounded and die with the object, to which nothing in it refers: when it
    is let go of, it is gone, and does not wait for the collector of cycles.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a window's key has 32 bytes")
        self._hashed = blake2b(key=key, digest_size=PSEUDONYM_BYTES, person=b"hc-pseudonym")
        self._pseudonyms = Lookup(_PSEUDONYM, partial(_pseudonyms, self._hashed))
        self._token = Blocks(blake2b(key=key, digest_size=32, person=b"hc-token").digest())
        self._seal = AESSIV(blake2b(key=key, digest_size=64, person=b"hc-seal").digest())
        self.checkpoint = blake2b(key=key, digest_size=32, person=b"hc-checkpoint").digest()  # what seals its state
        self._seals = Cache(partial(_seal, self._seal))

    def pseudonym(self, subject: str) -> bytes:
        """16 bytes that stand for the subject in this window and nowhere else."""
        return _pseudonyms(self._hashed, [subject.encode()]).tobytes()

    def pseudonyms(self, subjects: Dictionary, codes: Ints) -> npt.NDArray[np.void]:
        """:meth:`pseudonym` of each subject; zeros for nobody."""
        return self._pseudonyms.of(subjects, codes)

    def tokens(self, digests: Words) -> Words:
        """64 bits for each event's digest (:meth:`Router.digests`), which two deliveries of one event share."""
        return self._token.encrypted(digests)[:, 0]

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
    """Sends all that a subject does to one partition, by a keyed hash of which only that much is ever used.

    ``seed``: what nobody outside knows, for tables of what applications chose.
    """

    def __init__(self, key: bytes, partitions: int) -> None:
        self._hashed = blake2b(key=key, digest_size=8, person=b"hc-route")
        self._count = partitions
        self._partitions = Lookup(np.int64, self._partition_each)
        self.seed = int.from_bytes(blake2b(key=key, digest_size=8, person=b"hc-table").digest(), "big")
        self._events = Mac(blake2b(key=key, digest_size=32, person=b"hc-event").digest())

    def partition(self, subject: str) -> int:
        """Where all that the subject does is sent."""
        return self._partition_each([subject.encode()])[0]

    def partitions(self, subjects: Dictionary, codes: Ints) -> Ints:
        """:meth:`partition` of each subject; any one for nobody."""
        return self._partitions.of(subjects, codes)

    def digests(self, identity: Sequence[Texts]) -> Words:
        """rows × 2: 128 bits that tell an event from all others in the first hop, and leave it as a token only.

        ``identity``: subject, source and id. The subject is in it: nobody's event can hide somebody else's.
        """
        return self._events.of(identity)

    def partitions_of_events(self, digests: Words) -> Ints:
        """The partitions of events that are nobody's: they are spread, and deliveries of one go to the same."""
        found: Ints = (digests[:, 1] % np.uint64(self._count)).astype(np.int64)
        return found

    def _partition_each(self, subjects: Sequence[bytes]) -> list[int]:
        return [int.from_bytes(_hash(self._hashed, each), "big") % self._count for each in subjects]


def _pseudonyms(hashed: blake2b, subjects: Sequence[bytes]) -> npt.NDArray[np.void]:
    found = [_hash(hashed, each) if each else bytes(PSEUDONYM_BYTES) for each in subjects]
    return np.frombuffer(b"".join(found), dtype=_PSEUDONYM)


def _hash(hashed: blake2b, subject: bytes) -> bytes:
    state = hashed.copy()
    state.update(subject)
    return state.digest()


def _seal(seal: AESSIV, what: tuple[str, str]) -> bytes:
    field, value = what
    return seal.encrypt(value.encode().ljust(SEAL_BYTES - 16, b"\0"), [field.encode()])
