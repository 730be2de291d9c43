"""What the simulated application is like. Every proportion is declared here, and the tests hold the events to it."""

from typing import Final, NamedTuple


class Feature(NamedTuple):
    """``weight``: how likely it is among a user's favourites; ``typical_ms``: its median duration, where it has one."""

    name: str
    weight: float
    typical_ms: int | None = None


FEATURES: Final = (
    Feature("message.sent", 34),
    Feature("call.started", 17, typical_ms=95_000),
    Feature("photo.shared", 13),
    Feature("search.opened", 11, typical_ms=4_000),
    Feature("voice.recorded", 8, typical_ms=9_000),
    Feature("video.started", 6, typical_ms=400_000),
    Feature("status.posted", 5),
    Feature("file.shared", 4),
    Feature("group.created", 1.2),
    Feature("export.started", 0.8),
)
RARE_FEATURE: Final = "archive.imported"  # so few use it that it is held back
RARE_ONE_IN: Final = 700  # users

PLATFORMS: Final = {"android": 42, "ios": 27, "web": 18, "windows": 8, "macos": 4, "linux": 1}
SECOND_PLATFORM_SHARE: Final = 0.25  # of the users; they use the web one time in five
COUNTRIES: Final = {"NL": 46, "BE": 16, "DE": 14, "FR": 8, "GB": 6, "ES": 4, "US": 3, "JP": 2, "BR": 1}
PLANS: Final = {"free": 64, "basic": 20, "premium": 12, "business": 4}

MONDAY_TO_SUNDAY: Final = (1.0, 1.03, 1.02, 1.0, 0.94, 0.66, 0.62)
WEIGHT_OF_HOUR: Final = (2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 8, 8, 9, 8, 8, 8, 9, 10, 11, 12, 12, 10, 7, 4)  # UTC

OLD_VERSION: Final = "4.0.9"  # some never update
VERSION: Final = "4.1.3"
NEW_VERSION: Final = "4.2.0"
OLD_VERSION_SHARE: Final = 0.06
ROLL_OUT_DAY: Final = 16  # after the first day; on the web all have it that day
ROLL_OUT_DAYS: Final = 14  # until every other device that updates has it

PRESENT_AT_FIRST: Final = 0.7  # of all users; the others join over JOINING_DAYS
JOINING_DAYS: Final = 60
LEAVING_SHARE: Final = 0.08  # of all users, at some time in the JOINING_DAYS

OPTED_OUT_AT_FIRST: Final = 0.02  # of all users
OPTING_OUT_LATER: Final = 0.01

WITHOUT_SUBJECT: Final = 0.03  # of all uses: nobody was signed in
DELAYED: Final = 0.010  # emitted a day later, from a device that was offline: still in time
LATE: Final = 0.004  # emitted so much later that the day is closed
LATE_DAYS: Final = (4, 7)  # how much
REPEATED: Final = 0.005  # emitted twice, with one id
BROKEN_PER_DAY: Final = 6  # at most
