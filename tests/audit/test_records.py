"""One subject's event in a record of several takes nobody else's with it."""

import pytest

from pipeline.audit.worlds import line
from pipeline.core.outcomes import Reason
from pipeline.testing import Form, declarations, record, run

GOOD = line("u-1", "2026-05-05T12:00:00Z", 1, feature="search")
OTHER = line("u-2", "2026-05-05T12:00:00Z", 2, feature="search")
EVENT = line("u-3", "2026-05-05T12:00:00Z", 3, feature="search")
DEEP = [
    b"[" * 2_000 + b"]" * 2_000,
    b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    b'["],[{\\"",' * 2_000 + b"1" + b"]" * 2_000,  # brackets, commas and quotes in texts are no structure
]


@pytest.mark.parametrize("more", DEEP, ids=["arrays", "objects", "texts"])
@pytest.mark.parametrize("form", ["ndjson", "batch"])
def test_an_event_that_is_nested_too_deep_takes_no_other_with_it(form: Form, more: bytes) -> None:
    deep = EVENT.replace(b'"source"', b'"more":' + more + b',"source"')
    result = run(declarations(), [record(GOOD, deep, OTHER, form=form)])
    assert result.accepted == 2
    assert [rejection.reason for rejection in result.rejections] == [Reason.TOO_DEEP]
    assert [rejection.place for rejection in result.rejections] == [1]
