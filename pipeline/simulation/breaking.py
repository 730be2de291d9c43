"""Records that are no events, as careless applications send them beside those that are."""

from collections.abc import Iterator
from datetime import date
from random import Random

from pipeline.core.outcomes import Reason
from pipeline.simulation import world

_EVENT = (
    '{"specversion":"1.0","id":"broken","source":"chat-app","type":"usage.feature.used.v1",'
    '"time":"%(day)sT12:00:00Z","data":{"feature":"message.sent"}}'
)
# What is replaced by what, and why the result is rejected.
_FAULTS = (
    ('"}}', "", Reason.NOT_JSON),
    ('"source":"chat-app",', "", Reason.MISSING_ATTRIBUTE),
    ("used.v1", "used.v9", Reason.UNKNOWN_TYPE),
    ("T12:00:00Z", " noon", Reason.INVALID_TIME),
    ('"feature":"message.sent"', '"platform":"ios"', Reason.MISSING_FIELD),
    ('"message.sent"', '"Message Sent!"', Reason.INVALID_FIELD),
    ("message.sent", "call-0612345678", Reason.PERSONAL_DATA),
)


def break_events(random: Random, day: date) -> Iterator[tuple[bytes, Reason]]:
    """A few broken records of one day, each with the reason for which it has to be rejected."""
    for _ in range(random.randint(1, world.BROKEN_PER_DAY)):
        right, wrong, reason = random.choice(_FAULTS)
        yield (_EVENT % {"day": day.isoformat()}).replace(right, wrong).encode(), reason
