"""What operators read on standard error: a line an event of operation, as text or as JSON, and never what was received.

Of an exception the class and the place are told, for its text could quote an event. What a library says again and again
(the broker's client: 20 lines a second while a broker is away) is told once a minute.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

OURS = "headcount"  # the logger whose lines are few, and are all told
MINUTE = 60.0

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(form: str, level: str = "WARNING") -> None:
    """For the whole process. ``form``: ``text`` or ``json``; ``level``: of the libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(_TEXT))
    handler.addFilter(Sparingly())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger(OURS).setLevel(logging.INFO)
    threading.excepthook = _tell
    logging.disable(logging.DEBUG)  # Faust, aiokafka and kafka-python quote keys and values there


class TextFormatter(logging.Formatter):
    """A line for people."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        return super().formatMessage(record) + failure(record)

    def formatException(self, ei: object) -> str:  # noqa: ARG002, N802 - see :func:`failure`
        return ""

    def formatStack(self, stack_info: str) -> str:  # noqa: ARG002, N802
        return ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage() + failure(record),
            }
        )


def _tell(ended: threading.ExceptHookArgs) -> None:
    """A thread that ended with an exception."""
    if ended.exc_value is not None:
        told = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        logging.getLogger(OURS).error("a thread has ended", exc_info=told)


def failure(record: logging.LogRecord) -> str:
    """The class of the exception that a record tells of, and where it was raised."""
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    kind, _, trace = record.exc_info
    frames = traceback.extract_tb(trace)
    return f" ({kind.__name__} at {frames[-1].filename}:{frames[-1].lineno})" if frames else f" ({kind.__name__})"


class Sparingly(logging.Filter):
    """Lets one line a minute through of what a place in a library's code says; the next one tells how many there were.

    ``clock``: seconds, as ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[str, str, int], tuple[float, int]] = {}  # place → when it was told, and held back since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] == OURS:
            return True
        place, now = (record.name, record.pathname, record.lineno), self._clock()
        at, held = self._told.get(place, (-MINUTE, 0))
        if now - at < MINUTE:
            self._told[place] = at, held + 1
            return False
        self._told[place] = now, 0
        if held:
            record.msg, record.args = f"{record.getMessage()} [and {held} more like it]", ()
        return True
