"""The simulated users: who they are, when they are there, what they like, and which version they have when."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from pipeline.simulation import world
from pipeline.simulation.world import Feature

Days = int  # since the first day of the simulation


@dataclass(slots=True, frozen=True)
class User:
    """``activity``: the chance to use the application on a working day; ``uses``: how often then, about."""

    subject: str
    joined: Days
    left: Days
    opted_out: Days | None
    activity: float
    uses: float
    favourites: tuple[Feature, ...]
    platform: str
    also_web: bool
    country: str
    plan: str
    updates: Days | None  # to the new version; None: stays on an old one

    def version(self, day: Days, platform: str) -> str:
        """What the user runs that day."""
        if platform == "web":
            return world.NEW_VERSION if day >= world.ROLL_OUT_DAY else world.VERSION
        if self.updates is None:
            return world.OLD_VERSION
        return world.NEW_VERSION if day >= self.updates else world.VERSION


def draw_users(seed: int, users: int) -> list[User]:
    """All users that there will ever be, in an order that says nothing."""
    random = Random(f"users {seed}")
    weights = list(accumulate(feature.weight for feature in world.FEATURES))
    rare = Feature(world.RARE_FEATURE, 0)
    return [_draw_user(random, weights, (rare,) if number % world.RARE_ONE_IN == 0 else ()) for number in range(users)]


def _draw_user(random: Random, weights: Sequence[float], more: tuple[Feature, ...]) -> User:
    joined = 0 if random.random() < world.PRESENT_AT_FIRST else random.randrange(world.JOINING_DAYS)
    leaves = random.random() < world.LEAVING_SHARE
    stays_old = random.random() < world.OLD_VERSION_SHARE
    return User(
        subject=f"u-{random.getrandbits(40):010x}",
        joined=joined,
        left=random.randrange(joined, world.JOINING_DAYS) if leaves else 10**6,
        opted_out=_draw_opt_out(random),
        activity=0.02 + 0.96 * random.betavariate(1.3, 2.3),
        uses=random.lognormvariate(0.8, 0.6),
        favourites=_draw_favourites(random, weights) + more,
        platform=draw(random, world.PLATFORMS),
        also_web=random.random() < world.SECOND_PLATFORM_SHARE,
        country=draw(random, world.COUNTRIES),
        plan=draw(random, world.PLANS),
        updates=None if stays_old else world.ROLL_OUT_DAY + int(world.ROLL_OUT_DAYS * random.betavariate(1.5, 1.8)),
    )


def _draw_opt_out(random: Random) -> Days | None:
    chance = random.random()
    if chance < world.OPTED_OUT_AT_FIRST:
        return 0
    return random.randrange(world.JOINING_DAYS) if chance < world.OPTED_OUT_AT_FIRST + world.OPTING_OUT_LATER else None


def _draw_favourites(random: Random, weights: Sequence[float]) -> tuple[Feature, ...]:
    """One to four features, the dearest first."""
    favourites: dict[Feature, None] = {}
    for _ in range(random.choice((1, 2, 2, 3, 3, 4))):
        favourites[world.FEATURES[bisect(weights, random.random() * weights[-1])]] = None
    return tuple(favourites)


def draw(random: Random, weights: Mapping[str, int]) -> str:
    """One of the names, by their weights."""
    [name] = random.choices(list(weights), list(weights.values()))
    return name
