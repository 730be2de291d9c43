"""The last of A6: an attacker who was given all contributions of two months, every subject's name, the route key and
the keys of other windows, after the windows' own keys were destroyed.

He tries to find out who a pseudonym is, and which pseudonyms of the one month are the same subject's in the other.
Everybody does the same: what is tried is the pseudonyms, not habits.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import blake2b

import numpy as np

from pipeline.audit.estimates import DOUBT, at_least_so_many, rate_at_least
from pipeline.audit.findings import Finding, at_most
from pipeline.audit.worlds import line, records
from pipeline.core.contributions import Contributions, decode_contribution
from pipeline.core.pseudonyms import KEY_BYTES, PSEUDONYM_BYTES, WindowKey
from pipeline.core.windows import KINDS, day_of, window_of
from pipeline.testing import MemoryKeyStore, declarations
from pipeline.testing import run as count

MAY, JUNE = date(2026, 5, 31), date(2026, 6, 1)  # a Sunday and a Monday: no window holds both


def linking(n: int, seed: int) -> Iterator[Finding]:
    """``n`` subjects on the last day of one month and the first of the next, as their rows are kept."""
    declared, keys = declarations(), Lost(f"{seed}")
    names = [f"u-{i}" for i in range(n)]
    random = np.random.default_rng((seed, 66))
    lines = [
        line(names[i], f"{day}T12:00:00Z", f"{day}/{i}", feature="search", platform="web")
        for day in (MAY, JUNE)
        for i in random.permutation(n).tolist()
    ]
    result = count(declared, records(lines), keys=keys, since=MAY, until=date(2026, 6, 2))
    kept = [[decode_contribution(value) for value in part] for part in result.log]
    pseudonyms = {pseudonym for part in kept for day in (MAY, JUNE) for pseudonym in rows(part, day)}
    guesses = {pseudonym for key in left(keys.route()) for pseudonym in hashes(names, key)}
    tried = (
        f"pseudonyms of released windows beside {len(guesses):,} that what is left can make of all names; recognised"
    )
    yield at_most("A6 keys gone: who", tried, len(pseudonyms), len(pseudonyms & guesses), 0)
    # Both months of a subject are in one partition, which is known; in it, a rule that links one to one is right once.
    truth = keys.truth(names)
    linked = [pair for part in kept for pair in zip(*(sorted(rows(part, day)) for day in (MAY, JUNE)), strict=True)]
    right = sum(truth[a] == truth[b] for a, b in linked)
    chance = len(kept) / len(linked)
    limit = next(k for k in range(len(linked)) if at_least_so_many(k + 1, len(linked), chance) < DOUBT)
    tried = f"pseudonyms of one month linked to those of the next; right (by chance: {len(kept)})"
    yield at_most(
        "A6 keys gone: links",
        tried,
        len(linked),
        right,
        limit,
        lower=len(linked) * rate_at_least(right, len(linked), 0.05),
    )


class Lost(MemoryKeyStore):
    """Keys that are destroyed; the judge alone, not the attacker, has what they were."""

    def truth(self, names: Sequence[str]) -> dict[bytes, str]:
        """Who is who."""
        again = MemoryKeyStore(self._seed.decode())
        found: dict[bytes, str] = {}
        for day in (MAY, JUNE):
            key = again.window(window_of("day", day_of(day)))
            found |= {} if key is None else {key.pseudonym(name): name for name in names}
        return found


def rows(kept: Sequence[object], day: date) -> set[bytes]:
    """The pseudonyms of a day."""
    return {
        columns.pseudonyms[PSEUDONYM_BYTES * row : PSEUDONYM_BYTES * (row + 1)]
        for batch in kept
        if isinstance(batch, Contributions)
        for columns in batch.windows[:1]
        for row in range(batch.rows)
        if columns.cell(row)[0] == day_of(day)
    }


def left(route: bytes) -> Iterator[bytes | None]:
    """What an attacker may try for a key: none, the one that rows are routed by, and those that could be derived."""
    yield None
    yield route
    yield bytes(KEY_BYTES)
    for name in (window_of(kind, day_of(day)).name for kind in KINDS for day in (MAY, JUNE)):
        yield blake2b(name.encode(), digest_size=KEY_BYTES).digest()
        yield blake2b(name.encode(), key=route, digest_size=KEY_BYTES).digest()


def hashes(names: Sequence[str], key: bytes | None) -> list[bytes]:
    """The pseudonyms that this key makes of all names."""
    if key is None:
        return [blake2b(name.encode(), digest_size=PSEUDONYM_BYTES).digest() for name in names]
    window = WindowKey(key)
    return [window.pseudonym(name) for name in names]
