"""Keys in a topic, shared by workers on any number of hosts: who is first in the log has drawn a window's key.

Whoever needs a key that is not in the log writes one, wrapped, and reads the log up to it: the first draw counts, for
everybody. To destroy one, its window's name is written as destroyed, every draw of it is taken back (Kafka's cleaner
then deletes the bytes), and the log is read again to see that it says so. Nothing is cached that another worker has
destroyed for longer than it takes to read on, about a second.

Where every offset is a record, as on the embedded broker, which compacts nothing and shows records before those ahead
of them, holes are waited for: who skipped one could take a second draw for the first.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from pipeline.core.pseudonyms import WindowKey
from pipeline.core.windows import Window
from pipeline.stream.broker import is_embedded
from pipeline.stream.keylog import KeyDestroyed, KeyDrawn, KeyLog, KeyRecord, encode_key_record, new_draw
from pipeline.stream.keys import ROUTE, KeyState
from pipeline.stream.keywrapping import KeyStoreError, Wrapping, new_key
from pipeline.stream.topics import KEYS

PATIENCE = 30.0  # seconds for what takes milliseconds
HOLE_SECONDS = 0.02  # between two looks at a hole
LOOK_SECONDS = 120.0  # between two looks at the whole log, while it holds what counts for nothing


class TopicKeyStore:
    """The keys of ``usage.keys``. Threads may share the store; whoever asks waits for the broker.

    Raises :class:`KeyStoreError` or ``kafka.errors.KafkaError`` where the topic cannot be used.
    """

    def __init__(self, kafka: Mapping[str, Any], *keks: bytes, topic: str = KEYS) -> None:
        self._kafka = kafka
        self._wrapping = Wrapping(*keks)
        self._topic = topic
        self._dense = is_embedded(kafka)
        self._known: dict[Window, WindowKey] = {}
        self._lock = threading.RLock()
        self._producer: KafkaProducer | None = None
        self._tail = self._read()
        self._look_again = 0.0

    def window(self, window: Window) -> WindowKey | None:
        """The window's key; ``None`` once it was destroyed, by whichever worker."""
        known = self._known.get(window)  # without the lock: nobody waits for the broker for what is known
        if known is not None and window.name not in self._tail.log.destroyed:
            return known
        with self._lock:
            drawn = self._load_or_draw(window.name)
            if drawn is None:
                return None
            return self._known.setdefault(window, WindowKey(self._wrapping.unwrap(drawn[1].wrapped, drawn[0])))

    def destroy(self, window: Window) -> None:
        """The word first: from then on nobody takes a draw of it. Then the draws. Then the log says that it is so."""
        name = window.name
        with self._lock:
            self._known.pop(window, None)
            if name not in self._tail.log.destroyed:
                self._say([(name, KeyDestroyed(destroyed=datetime.now(UTC)))])
            self._take_back(name)
            if name not in self._tail.log.destroyed or self._tail.log.draws.get(name):
                raise KeyStoreError(
                    f"the key of {name} is not destroyed in {self._topic}: see that one can write there"
                )

    def forget_destroyed(self) -> None:
        """Reads on, and drops from memory what another worker has destroyed. To be called about every second.

        As long as the log holds bytes that count for nothing, it is looked at as a whole every two minutes: what a
        worker that died has left behind is taken back, and something is written, for Kafka closes no segment, and so
        compacts none, that nobody writes to.
        """
        with self._lock:
            try:
                self._tail.read_on(0)
                if time.monotonic() >= self._look_again and self._tail.log.lingering():
                    self._look()
                    self._look_again = time.monotonic() + LOOK_SECONDS
            except (KafkaError, KeyStoreError):
                return  # the broker is away: whoever needs a key will say so, and this is tried again
            for window in [w for w in self._known if w.name in self._tail.log.destroyed]:
                del self._known[window]

    def route(self) -> bytes:
        """The key that rows are routed by."""
        with self._lock:
            draw, record = self._route()
            return self._wrapping.unwrap(record.wrapped, draw)

    def born(self) -> float:
        """When the store was made, in seconds since 1970: no window that had closed by then is released."""
        with self._lock:
            return self._route()[1].drawn.timestamp()

    def states(self) -> list[KeyState]:
        """Every key that the log knows of, as it is now."""
        with self._lock:
            log = self._read_anew().log
            lingering = log.lingering()
            found = [
                KeyState(name, "destroyed", destroyed=at, erased=name not in lingering)
                for name, at in log.destroyed.items()
            ]
            for name, (draw, record) in log.live().items():
                current = self._wrapping.current(record.wrapped, draw)
                found.append(KeyState(name, "live", drawn=record.drawn, current=current))
        return sorted(found, key=lambda key: key.id)

    def rotate(self) -> int:
        """Wraps every key anew that the first key-encryption key has not wrapped; gives how many.

        At any moment the log holds each key under the one or the other.
        """
        with self._lock:
            log = self._read_anew().log
            anew: list[tuple[str, KeyRecord]] = []
            for draw, record in log.live().values():
                if not self._wrapping.current(record.wrapped, draw):
                    wrapped = self._wrapping.wrap(self._wrapping.unwrap(record.wrapped, draw), draw)
                    anew.append((draw, msgspec.structs.replace(record, wrapped=wrapped)))
            self._say(anew)
            self._take_back(*log.draws)  # what was destroyed meanwhile, and what was never the first
        return len(anew)

    def close(self) -> None:
        """Ends the connections."""
        with self._lock:
            self._tail.close()
            if self._producer is not None:
                self._producer.close(timeout=5)

    def _route(self) -> tuple[str, KeyDrawn]:
        drawn = self._load_or_draw(ROUTE)
        if drawn is None:
            raise KeyStoreError(f"{self._topic} says that the key of the route is destroyed, which nobody does")
        return drawn

    def _load_or_draw(self, name: str) -> tuple[str, KeyDrawn] | None:
        log = self._tail.log
        if name not in log.destroyed and log.first(name) is None:
            self._tail.read_on(0)
        if name not in log.destroyed and log.first(name) is None:
            draw = new_draw(name)
            wrapped = self._wrapping.wrap(new_key(), draw)
            self._say([(draw, KeyDrawn(wrapped=wrapped, drawn=datetime.now(UTC)))])
            if draw in log.useless(name):
                self._say([(draw, None)])
        return log.first(name)

    def _take_back(self, *names: str) -> None:
        """Deletes the draws of these names that do not count."""
        self._say([(draw, None) for name in names for draw in self._tail.log.useless(name)])

    def _look(self) -> None:
        log = self._read_anew().log
        self._take_back(*(name for name in log.draws if name in log.destroyed))
        lingering = sorted(log.lingering() & log.destroyed.keys())
        if lingering and not self._dense:
            self._say([(lingering[0], KeyDestroyed(destroyed=log.destroyed[lingering[0]]))])

    def _read_anew(self) -> "Tail":
        tail = self._read()
        self._tail.close()
        self._tail = tail
        return tail

    def _read(self) -> "Tail":
        """The log from its beginning to its end."""
        tail = Tail(self._kafka, self._topic, dense=self._dense)
        try:
            tail.read_to(None)
        except BaseException:
            tail.close()
            raise
        return tail

    def _say(self, records: Sequence[tuple[str, KeyRecord | None]]) -> None:
        """Writes, and reads on until all of it is read back."""
        if not records:
            return
        try:
            if self._producer is None:
                self._producer = KafkaProducer(
                    **self._kafka,
                    acks="all",
                    max_block_ms=int(PATIENCE * 1000),
                    delivery_timeout_ms=int(PATIENCE * 1000),
                    request_timeout_ms=int(PATIENCE * 500),
                )
            sent = [
                self._producer.send(
                    self._topic,
                    partition=0,
                    key=key.encode(),
                    value=None if record is None else encode_key_record(record),
                )
                for key, record in records
            ]
            written = [future.get(PATIENCE).offset for future in sent]
        except KafkaError as error:
            raise KeyStoreError(
                f"{self._topic} cannot be written ({type(error).__name__}): is the broker up, and may this principal "
                "write there? Nothing is counted without keys"
            ) from None
        if min(written) < self._tail.next:  # a second key would count everybody twice
            raise KeyStoreError(
                f"{self._topic} was made anew while this worker ran: docs/operators.md says under Keys what to do when "
                "keys are lost"
            )
        self._tail.read_to(max(written) + 1)


class Tail:
    """A reading of the log so far. ``next``: the offset after what was read."""

    def __init__(self, kafka: Mapping[str, Any], topic: str, *, dense: bool) -> None:
        self.log = KeyLog()
        self.next = 0
        self._dense = dense
        self._partition = TopicPartition(topic, 0)
        self._consumer = KafkaConsumer(
            **kafka,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            bootstrap_timeout_ms=int(PATIENCE * 1000),
        )
        if self._consumer.partitions_for_topic(topic) != {0}:
            self.close()
            raise KeyStoreError(f"the topic {topic} is missing, or has not one partition: `headcount topics` makes it")
        self._consumer.assign([self._partition])
        self._consumer.seek_to_beginning()

    def read_to(self, end: int | None) -> None:
        """Reads up to an offset, or to the end that the broker names. Raises :class:`KeyStoreError` if it cannot."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.read_on(100)
            known = self._consumer.highwater(self._partition) if end is None else end
            if known is not None and self.next >= known:
                return
            if time.monotonic() > deadline:
                raise KeyStoreError(
                    f"{self._partition.topic} could not be read up to offset {known}: is the broker up, and may this "
                    "principal read there? Nothing is counted without keys"
                )

    def read_on(self, milliseconds: int) -> None:
        """Takes in what has come."""
        for record in self._consumer.poll(timeout_ms=milliseconds).get(self._partition, []):
            if self._dense and record.offset != self.next:
                self._consumer.seek(self._partition, self.next)
                time.sleep(HOLE_SECONDS)
                return
            try:
                self.log.add(record.offset, record.key or b"", record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise KeyStoreError(
                    f"{self._partition.topic} holds something that is no key, at offset {record.offset}: "
                    "who may write there?"
                ) from None
            self.next = record.offset + 1
        if not self._dense:
            self.next = max(self.next, self._consumer.position(self._partition) or 0)

    def close(self) -> None:
        self._consumer.close()
