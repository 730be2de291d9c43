"""Points in time as most programs write them (RFC 3339, in UTC): ``2026-05-01T09:30:00Z``, with a fraction or not."""

import numpy as np
import numpy.typing as npt

from pipeline.core.numbers import Ints
from pipeline.core.texts import seen

LONGEST_TIME = 27  # bytes, with microseconds
_SHORTEST = 20
_LAST_YEAR = 2200  # microseconds until then fit into a float
_WEIGHTS = {
    "year": (0, 4),
    "month": (5, 7),
    "day": (8, 10),
    "hour": (11, 13),
    "minute": (14, 16),
    "second": (17, 19),
}
_SIGNS = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":"}


def seconds_of(buffer: bytes, begins: Ints, lengths: Ints) -> npt.NDArray[np.float64]:
    """Seconds since 1970, as :meth:`datetime.timestamp` gives them; NaN for what is written otherwise, is no time, or
    is not in the years from 1970 to 2200.
    """
    found = np.full(len(begins), np.nan)
    for length in (_SHORTEST, *range(_SHORTEST + 2, LONGEST_TIME + 1)):
        rows = np.flatnonzero(lengths == length)
        if len(rows):
            found[rows] = _seconds(seen(buffer, length)[begins[rows]].view("u1").reshape(-1, length))
    return found


def _seconds(letters: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """From rows × letters, all of one length."""
    columns = np.ascontiguousarray(letters.T)
    signs = {**_SIGNS, len(columns) - 1: "Z"}
    if len(columns) > _SHORTEST:
        signs[_SHORTEST - 1] = "."
    wrong = np.zeros(len(letters), dtype=bool)
    for place, sign in signs.items():
        wrong |= columns[place] != ord(sign)
    digits = columns - np.uint8(ord("0"))
    for place in range(len(columns)):
        if place not in signs:
            wrong |= digits[place] > 9
    numbers = {name: _number(digits[begin:end]) for name, (begin, end) in _WEIGHTS.items()}
    fraction = digits[_SHORTEST:-1]
    micros = _number(fraction) * 10 ** (6 - len(fraction)) if len(fraction) else np.int64(0)
    wrong |= (
        (numbers["year"] < 1970) | (numbers["year"] > _LAST_YEAR) | (numbers["month"] < 1) | (numbers["month"] > 12)
    )
    wrong |= (numbers["hour"] > 23) | (numbers["minute"] > 59) | (numbers["second"] > 59)
    month = (np.where(wrong, 0, (numbers["year"] - 1970) * 12 + numbers["month"] - 1)).astype("datetime64[M]")
    first = month.astype("datetime64[D]").astype(np.int64)
    wrong |= (numbers["day"] < 1) | (numbers["day"] > (month + 1).astype("datetime64[D]").astype(np.int64) - first)
    time = ((first + numbers["day"] - 1) * 24 + numbers["hour"]) * 60 + numbers["minute"]
    return np.where(wrong, np.nan, ((time * 60 + numbers["second"]) * 1_000_000 + micros) / 1e6)


def _number(digits: npt.NDArray[np.uint8]) -> Ints:
    """digits × rows → numbers."""
    number: Ints = digits[0].astype(np.int64)
    for digit in digits[1:]:
        number = number * 10 + digit
    return number
