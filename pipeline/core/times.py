"""Points in time as most programs write them (RFC 3339, in UTC): ``2026-05-01T09:30:00Z``, with a fraction or not."""

import numpy as np
import numpy.typing as npt

from pipeline.core.numbers import Flags, Ints
from pipeline.core.texts import seen

Letters = npt.NDArray[np.uint8]  # letters × rows

LONGEST_TIME = 27  # bytes, with microseconds
_SHORTEST = 20
_LAST_YEAR = 2200  # microseconds until then fit into a float
_DATE = 10  # bytes
_DAY = 24 * 60 * 60 * 1_000_000  # microseconds


def seconds_of(buffer: bytes, begins: Ints, lengths: Ints) -> npt.NDArray[np.float64]:
    """Seconds since 1970, as :meth:`datetime.timestamp` gives them; NaN for what is written otherwise, is no time, or
    is not in the years from 1970 to 2200.
    """
    found = np.full(len(begins), np.nan)
    for length in (_SHORTEST, *range(_SHORTEST + 2, LONGEST_TIME + 1)):
        rows = np.flatnonzero(lengths == length)
        if len(rows):
            days, no_day = _days(seen(buffer, _DATE)[begins[rows]])
            micros, no_time = _micros(_letters(seen(buffer, length - _DATE)[begins[rows] + _DATE]))
            found[rows] = np.where(no_day | no_time, np.nan, (days * _DAY + micros) / 1e6)
    return found


def _days(dates: npt.NDArray[np.void]) -> tuple[Ints, Flags]:
    """Days since 1970, and which are none. Events mostly come in order: a date like the last is not looked at again."""
    other = np.ones(len(dates), dtype=bool)
    other[1:] = dates[1:] != dates[:-1]
    digits, wrong = _digits(_letters(dates[other]), {4: "-", 7: "-"})
    year, month, day = _number(digits[0:4]), _number(digits[5:7]), _number(digits[8:10])
    wrong |= (year < 1970) | (year > _LAST_YEAR) | (month < 1) | (month > 12)
    months = np.where(wrong, 0, (year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first, following = (each.astype("datetime64[D]").astype(np.int64) for each in (months, months + 1))
    wrong |= (day < 1) | (day > following - first)
    of = np.cumsum(other) - 1
    return (first + day - 1)[of], wrong[of]


def _micros(letters: Letters) -> tuple[Ints, Flags]:
    """Microseconds since the day began, from what is behind the date, and which are none."""
    last = len(letters) - 1
    digits, wrong = _digits(letters, {0: "T", 3: ":", 6: ":", 9: "." if last > 9 else "Z", last: "Z"})
    hour, minute, second = _number(digits[1:3]), _number(digits[4:6]), _number(digits[7:9])
    wrong |= (hour > 23) | (minute > 59) | (second > 59)
    fraction = digits[10:last]
    micros = _number(fraction) * 10 ** (6 - len(fraction)) if len(fraction) else 0
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, wrong


def _letters(texts: npt.NDArray[np.void]) -> Letters:
    return np.ascontiguousarray(texts.view("u1").reshape(-1, texts.itemsize).T)


def _digits(letters: Letters, signs: dict[int, str]) -> tuple[Letters, Flags]:
    """What each letter is worth, and the rows in which one is not what it should be: a sign at its place, else a
    digit.
    """
    digits = letters - np.uint8(ord("0"))
    wrong = np.zeros(letters.shape[1], dtype=bool)
    for place in range(len(letters)):
        wrong |= (letters[place] != ord(signs[place])) if place in signs else (digits[place] > 9)
    return digits, wrong


def _number(digits: Letters) -> Ints:
    """digits × rows → numbers."""
    number: Ints = digits[0].astype(np.int64)
    for digit in digits[1:]:
        number = number * 10 + digit
    return number
