"""The keys that workers share: in files where all see one directory, in a topic where they do not."""

from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pipeline.core.pseudonyms import KeyStore
from pipeline.settings import Settings, SettingsError
from pipeline.stream.keywrapping import KeyStoreError, read_keks

ROUTE = "route"  # the name of the one key that is no window's
IN_TOPIC = "kafka:"  # what HEADCOUNT_KEYS says for the topic


class KeyState(NamedTuple):
    """What can be said of a key without showing it.

    ``id``: its window's name, or ``route``. ``drawn`` and ``destroyed``: where it is known when. ``current``: of a live
    one, whether the first key-encryption key has wrapped it. ``erased``: of a destroyed one, whether the store holds
    none of its bytes any more.
    """

    id: str
    state: Literal["live", "destroyed"]
    drawn: datetime | None = None
    destroyed: datetime | None = None
    current: bool | None = None
    erased: bool | None = None


class SharedKeys(KeyStore, Protocol):
    """A store that several workers have open at once, and operators look at."""

    def forget_destroyed(self) -> None:
        """Drops from memory what another worker has destroyed. To be called about every second; never raises."""

    def born(self) -> float:
        """When the store was made, in seconds since 1970: no window that had closed by then is released."""

    def states(self) -> list[KeyState]:
        """Every key that is known of, by its id."""

    def rotate(self) -> int:
        """Wraps every key anew that the first key-encryption key has not wrapped; gives how many.

        Whenever it is broken off, each key can be unwrapped by the one or the other.
        """

    def close(self) -> None:
        """Ends its connections, where there are any."""


def were_lost(settings: Settings) -> bool:
    """Whether a directory is named in which no worker ever began: at the first start, or where it is not mounted."""
    return settings.keys != IN_TOPIC and not (Path(settings.keys) / f"{ROUTE}.key").exists()


def open_keys(settings: Settings, *, make: bool = True) -> SharedKeys:
    """The store that ``HEADCOUNT_KEYS`` names. ``make``: in a directory without keys the first is drawn.

    Raises :class:`~pipeline.stream.keywrapping.KeyStoreError` where it must not be used, or is not there.
    """
    keks = read_keks(settings)
    if settings.keys == IN_TOPIC:
        from pipeline.stream.keytopic import TopicKeyStore

        return TopicKeyStore(settings.kafka(), *keks)
    if settings.keys.startswith(IN_TOPIC):
        raise SettingsError(f"HEADCOUNT_KEYS is a directory, or {IN_TOPIC} and nothing behind it")
    from pipeline.stream.keystore import FileKeyStore

    directory = Path(settings.keys)
    if not make and not (directory / f"{ROUTE}.key").exists():
        raise KeyStoreError(
            f"there are no keys in {directory}: set HEADCOUNT_KEYS as the workers that ingest have it, which draw them"
        )
    return FileKeyStore(directory, *keks)
