"""The forms that a record may have, by its headers; and the texts of its events, where they are told apart by hand."""

import re

from pipeline.core.events import MAX_EVENTS, STRUCTURED, Headers
from pipeline.core.outcomes import Reason

BINARY = "binary"  # no media type: the attributes are headers


def headers_of(named: Headers) -> tuple[dict[str, bytes], str]:
    """The headers by their names in lower case, the last of a name counts; and the media type."""
    headers = {name.lower(): content for name, content in named if content is not None}
    return headers, headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


def form_of(named: Headers) -> str:
    """A media type, or :data:`BINARY`."""
    headers, form = headers_of(named)
    if form == STRUCTURED:  # it may have the attributes as headers too
        return form
    return BINARY if "ce_specversion" in headers or "ce_type" in headers or "ce_id" in headers else form


def limited(texts: list[bytes]) -> list[bytes] | Reason:
    """The texts of a record's events, if they are some and not too many."""
    return Reason.TOO_LARGE if len(texts) > MAX_EVENTS else texts or Reason.EMPTY


def elements(array: bytes) -> list[bytes]:
    """The texts between the commas of a JSON array, however deep they are nested; none of what is no array.

    Linear, and reads no values.
    """
    elements: list[bytes] = []
    depth, begin = 0, array.index(b"[") + 1
    for mark in _MARKS.finditer(array):
        if mark[0] in b"[{":
            depth += 1
        elif mark[0] in b"]}":
            depth -= 1
        if depth == 0 or (depth == 1 and mark[0] == b","):
            elements.append(array[begin : mark.start()])
            begin = mark.end()
        if depth == 0:
            return [] if array[mark.end() :].strip() else elements
    return []


_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{},]', re.DOTALL)
