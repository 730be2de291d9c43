"""Day after day of the simulated application: what its devices emit, in order."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from math import log
from random import Random
from typing import Final, NamedTuple

from pipeline.core.outcomes import Reason
from pipeline.simulation import world
from pipeline.simulation.breaking import break_events
from pipeline.simulation.people import User, draw_users

_HOURS: Final = tuple(hour for hour, weight in enumerate(world.WEIGHT_OF_HOUR) for _ in range(weight))
_HOUR_MS: Final = 3_600_000


class Use(NamedTuple):
    """One use of a feature; becomes one event. ``subject``: ``None`` where nobody was signed in."""

    time: datetime
    id: str
    subject: str | None
    feature: str
    platform: str
    app_version: str
    country: str
    plan: str
    duration_ms: int | None


class Broken(NamedTuple):
    """A record that is no event, and the reason for which it has to be rejected."""

    value: bytes
    reason: Reason


class Day(NamedTuple):
    """``opted_out``: who opts out as the day begins. ``uses``: what is emitted that day, some of it of days before."""

    date: date
    opted_out: tuple[str, ...]
    uses: list[Use]
    broken: list[Broken]


def simulate(seed: int, users: int, first_day: date, days: int) -> Iterator[Day]:
    """The days in order. Uses of subjects who opted out are among them: an emitter has to hold those back."""
    people = draw_users(seed, users)
    pending: dict[int, list[Use]] = {}  # by the day on which the device is online again
    for number in range(days):
        # A generator a day: the first days are the same however many follow.
        random = Random(f"day {seed} {users} {number}")
        today = first_day + timedelta(days=number)
        uses = pending.pop(number, [])
        for use in _uses(random, people, number, today):
            chance = random.random()
            if chance < world.LATE:
                pending.setdefault(number + random.randint(*world.LATE_DAYS), []).append(use)
            elif chance < world.LATE + world.DELAYED:
                pending.setdefault(number + 1, []).append(use)
            else:
                uses.append(use)
                if chance > 1 - world.REPEATED:
                    uses.append(use)
        uses.sort()
        opted_out = tuple(user.subject for user in people if user.opted_out == number)
        yield Day(today, opted_out, uses, [Broken(*each) for each in break_events(random, today)])


def reaching(days: Iterable[Day]) -> Iterator[Day]:
    """The days without the uses of subjects who opted out: what an emitter lets through."""
    opted_out: set[str | None] = set()
    for day in days:
        opted_out.update(day.opted_out)
        yield day._replace(uses=[use for use in day.uses if use.subject not in opted_out])


def _uses(random: Random, people: list[User], number: int, today: date) -> Iterator[Use]:
    rhythm = world.MONDAY_TO_SUNDAY[today.weekday()]
    midnight = datetime.combine(today, time(), UTC)
    chance = random.random
    for user in people:
        if not user.joined <= number < user.left or chance() >= user.activity * rhythm:
            continue
        # The version of the day: a device does not change it between two uses.
        own, web = user.version(number, user.platform), user.version(number, "web")
        for _ in range(1 + int(-user.uses * log(1 - chance()))):
            # The square makes the first of the favourites the dearest.
            feature = user.favourites[int(len(user.favourites) * chance() ** 2)]
            on_web = user.also_web and chance() < 0.2
            at = _HOURS[int(len(_HOURS) * chance())] * _HOUR_MS + int(_HOUR_MS * chance())
            yield Use(
                midnight + timedelta(milliseconds=at),
                f"{random.getrandbits(64):016x}",
                None if chance() < world.WITHOUT_SUBJECT else user.subject,
                feature.name,
                "web" if on_web else user.platform,
                web if on_web else own,
                user.country,
                user.plan,
                None if feature.typical_ms is None else int(feature.typical_ms * random.lognormvariate(0, 0.9)),
            )
