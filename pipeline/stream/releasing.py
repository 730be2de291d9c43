"""The third hop around its core: gathers tallies, draws once, commits, destroys the keys."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag

from pipeline.core.budget import Accountant
from pipeline.core.ledger import Ledger
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.release import release_key
from pipeline.core.releasing import Gathered, Noise, release_window
from pipeline.core.windows import Window
from pipeline.stream.metering import Meter
from pipeline.stream.releaselog import Fenced, ReleaseLog
from pipeline.stream.tallying import decode_tally
from pipeline.stream.transport import Batch

WINDOWS_PER_COMMIT = 64


class KeyGone(RuntimeError):
    """A window was not released, and its key is destroyed or lost: its cells cannot be opened any more."""

    def __init__(self, window: Window, what: str) -> None:
        super().__init__(
            f"{window.name} has no release, and {what}: its statistics cannot be made, and nothing was published. If "
            "HEADCOUNT_KEYS is right, the key is lost: docs/operators.md says under Keys what to do then"
        )


class ReleaseHop:
    """Hands batches of ``usage.tallies`` to a :class:`Releaser`: a new one each time the partition is assigned."""

    dense = True

    def __init__(
        self,
        accountant: Accountant,
        keys: KeyStore,
        noise: Noise,
        kafka: Mapping[str, Any],
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter or Meter()
        self._arguments = (accountant, keys, noise, kafka)
        self._releaser: Releaser | None = None

    def begin(self, _: int, earliest: int, __: int | None) -> int:
        """Tallies are gathered from the beginning: a partition's word counts only after the tallies before it."""
        self.forget(0)
        self._releaser = Releaser(*self._arguments)
        return earliest

    async def handle(self, batch: Batch) -> None:
        """In a thread: the log and the draws take their time. Batches come one after the other."""
        if self._releaser is not None:
            lap = self.meter.laps()
            self.meter.released += await asyncio.to_thread(self._releaser.handle, batch)
            lap("release")

    def ledger(self) -> Ledger:
        """What was spent, where this worker is the releaser and has read the log; else nothing."""
        log = None if self._releaser is None else self._releaser.log
        return Ledger() if log is None else log.ledger.copy()

    def forget(self, _: int) -> None:
        """Whoever has the tallies now fences the log of this one, which is closed once nothing is under way in it."""
        if self._releaser is not None:
            threading.Thread(target=self._releaser.close, daemon=True).start()
        self._releaser = None


class Releaser:
    """Releases each window once every partition has counted it. Everything here may block."""

    def __init__(self, accountant: Accountant, keys: KeyStore, noise: Noise, kafka: Mapping[str, Any]) -> None:
        self.accountant = accountant
        self.keys = keys
        self.noise = noise
        self.kafka = kafka
        self.gathered = Gathered()
        self.log: ReleaseLog | None = None
        self._busy = threading.Lock()
        self._closed = False

    def handle(self, batch: Batch) -> int:
        """Adds tallies; releases what they complete. Gives the number of windows released; none once it is closed."""
        with self._busy:
            return 0 if self._closed else self._handle(batch)

    def close(self) -> None:
        """Closes the log, after what is under way."""
        with self._busy:
            self._closed = True
            if self.log is not None:
                self.log.close()

    def _handle(self, batch: Batch) -> int:
        if self.log is None:
            self.log = ReleaseLog(self.kafka)
        log = self.log
        for record in batch.records:
            self.gathered.add(decode_tally(record.value or b""))
        complete = self.gathered.complete()
        fresh = [window for window in complete if self._missing(log, window)]
        for start in range(0, len(fresh), WINDOWS_PER_COMMIT):
            self._release(log, fresh[start : start + WINDOWS_PER_COMMIT])
        for window in complete:
            self.keys.destroy(window)
            self.gathered.forget(window)
        return len(fresh)

    def _missing(self, log: ReleaseLog, window: Window) -> list[str]:
        """The statistics that every partition has counted and nobody has released."""
        tallies = self.gathered.tallies[window].values()
        names = (n for n in self.accountant.plan.of(window.kind) if all(n in tally.statistics for tally in tallies))
        return [name for name in names if release_key(name, window.name) not in log.keys]

    def _release(self, log: ReleaseLog, windows: list[Window]) -> None:
        names = {window: self._missing(log, window) for window in windows}
        ledger = log.ledger.copy()
        for window in windows:  # all of a commit is covered before anything of it is drawn
            self.accountant.cover(window, names[window], ledger)
        releases = []
        for window in windows:
            key = self.keys.window(window)
            if key is None:
                log.read()
                if not self._missing(log, window):  # who released it, and destroyed the key, was not this worker
                    raise Fenced
                raise KeyGone(window, "its key is destroyed")
            tallies = self.gathered.tallies[window].values()
            try:
                releases += release_window(self.accountant, window, names[window], tallies, key, self.noise)
            except InvalidTag:
                raise KeyGone(window, "its key is not the one that its cells were sealed under") from None
        log.commit(releases)
