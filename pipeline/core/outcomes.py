"""Every event ends in exactly one outcome: accepted, or rejected for one named reason. The enumeration is closed.

A reason says what was wrong and never quotes it. The names are part of the interface: they appear in
``usage.rejections``, in summaries and in metrics.
"""

from enum import StrEnum, unique
from typing import NamedTuple


@unique
class Reason(StrEnum):
    """Why an event was rejected; in the order in which the checks are made."""

    EMPTY = "empty"  # a record without a value
    TOO_LARGE = "too_large"  # over the limit of a record or of one event
    UNSUPPORTED_FORM = "unsupported_form"  # a content type that is no form of a CloudEvent
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"  # nested deeper than any event is
    NOT_AN_EVENT = "not_an_event"  # JSON, but no object
    MISSING_ATTRIBUTE = "missing_attribute"
    INVALID_ATTRIBUTE = "invalid_attribute"  # specversion, id, source or type of a wrong kind or length
    UNKNOWN_TYPE = "unknown_type"  # a type, or a major version of it, that is not registered
    INVALID_SUBJECT = "invalid_subject"  # empty, too long or not a string
    INVALID_TIME = "invalid_time"  # no RFC 3339 time, or one without zone
    INVALID_DATA = "invalid_data"  # data that is no JSON object
    MISSING_FIELD = "missing_field"  # a required field is absent
    INVALID_FIELD = "invalid_field"  # a registered field whose value is not of its kind
    PERSONAL_DATA = "personal_data"  # a registered field whose value looks like an address or a number of a person
    FUTURE = "future"  # later than the clock by more than the policy allows
    BEFORE_POLICY = "before_policy"  # on a day before the policy took effect
    OUT_OF_SPAN = "out_of_span"  # on a day that the replay did not declare
    LATE = "late"  # its window is closed
    DUPLICATE = "duplicate"  # the same subject, source and id were counted before


class Rejection(NamedTuple):
    """Where a rejected event stood: the source partition, the record's offset, the place within the record. Never
    what it said.
    """

    reason: Reason
    partition: int
    offset: int
    place: int
