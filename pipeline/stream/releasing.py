"""The third hop around its core: gathers tallies, draws once, commits, destroys the keys."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.budget import Accountant
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.release import release_key
from pipeline.core.releasing import Gathered, Noise, release_window
from pipeline.core.windows import Window
from pipeline.stream.releaselog import ReleaseLog
from pipeline.stream.tallying import decode_tally
from pipeline.stream.transport import Batch

WINDOWS_PER_COMMIT = 64


class KeyGone(RuntimeError):
    """A window was not released, and its key is destroyed: its cells cannot be opened any more."""


class ReleaseHop:
    """Releases each window once every partition has counted it. Everything here may block: call it from a thread."""

    def __init__(self, accountant: Accountant, keys: KeyStore, noise: Noise, kafka: Mapping[str, Any]) -> None:
        self.accountant = accountant
        self.keys = keys
        self.noise = noise
        self.kafka = kafka
        self.gathered = Gathered()
        self.log: ReleaseLog | None = None
        self.read: int | None = None  # the first offset that is not gathered

    def resume(self, _: int, earliest: int) -> int:
        """Tallies are gathered from the beginning each time: a partition's word counts only after its tallies."""
        self.gathered = Gathered()
        self.read = earliest
        return earliest

    def handle(self, batch: Batch) -> int:
        """Adds tallies; releases what they complete. Gives the number of windows released."""
        if self.log is None:
            self.log = ReleaseLog(self.kafka)
        log = self.log
        for record in batch.records:
            if self.read is not None:
                if record.offset != self.read:
                    continue  # from before the partition was read anew: a word without the tallies before it misleads
                self.read += 1
            self.gathered.add(decode_tally(record.value or b""))
        complete = self.gathered.complete()
        fresh = [window for window in complete if self._missing(log, window)]
        for start in range(0, len(fresh), WINDOWS_PER_COMMIT):
            self._release(log, fresh[start : start + WINDOWS_PER_COMMIT])
        for window in complete:
            self.keys.destroy(window)
            del self.gathered.tallies[window]
        return len(fresh)

    def forget(self) -> None:
        """The tallies were given to another worker."""
        self.gathered = Gathered()
        if self.log is not None:
            self.log.close()
            self.log = None

    def _missing(self, log: ReleaseLog, window: Window) -> list[str]:
        """The statistics that every partition has counted and nobody has released."""
        tallies = self.gathered.tallies[window].values()
        names = (n for n in self.accountant.plan.of(window.kind) if all(n in tally.statistics for tally in tallies))
        return [name for name in names if release_key(name, window.name) not in log.keys]

    def _release(self, log: ReleaseLog, windows: list[Window]) -> None:
        releases = []
        for window in windows:
            key = self.keys.window(window)
            if key is None:
                raise KeyGone(
                    f"{window.name} has no release and no key; its statistics are lost, nothing was published"
                )
            tallies = self.gathered.tallies[window].values()
            releases += release_window(self.accountant, window, self._missing(log, window), tallies, key, self.noise)
        log.commit(releases)
