"""Faults are planted where the table says, and leave nothing behind. That each is caught is shown by ``make audit``."""

import pytest

import pipeline.stream.releasing
import pipeline.testing
from pipeline.audit.attacks import ATTACKS
from pipeline.audit.faults import FAULTS, DoesNotFit, Edit, Fault, planted
from pipeline.audit.planted import TRIALS, caught
from pipeline.core import releasing
from pipeline.core.pseudonyms import WindowKey
from pipeline.core.statistics import Statistic
from pipeline.testing import event, record, run

from ..properties.worlds import SHOW_ALL

THE_TWELVE = {
    "no de-duplication",
    "bounds per wrong partition",
    "true count against k",
    "redraw on retry",
    "max_cells off by one",
    "an unclipped late event",
    "only touched keys published",
    "salt noise",
    "sigma a factor √2 wrong",
    "exact total beside suppressed cells",
    "zero cells of a catalogue left out",
    "budget spent twice",
}


def test_the_twelve_faults_are_there_and_each_has_an_attack_that_must_catch_it() -> None:
    assert {fault.name for fault in FAULTS} == THE_TWELVE
    assert len(FAULTS) == 12
    assert {fault.caught_by for fault in FAULTS} == set(TRIALS) < {attack.id for attack in ATTACKS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted_and_is_gone_afterwards(fault: Fault) -> None:
    before = snapshot()
    with planted(fault):
        assert snapshot() != before
    assert snapshot() == before


def snapshot() -> dict[str, object]:
    """Every function and method that the table names, and the places where some are known by name."""
    found: dict[str, object] = {
        "in testing": pipeline.testing.release_window,
        "in stream": pipeline.stream.releasing.release_window,
        "in core": releasing.release_window,
    }
    for fault in FAULTS:
        for where, _ in fault.edits:
            module, _, path = where.partition(":")
            owner: object = __import__(module, fromlist=["_"])
            for name in path.split("."):
                owner = getattr(owner, name)
            found[where] = owner
    return found


def test_a_function_that_others_import_by_name_is_faulty_there_too() -> None:
    [twice] = [fault for fault in FAULTS if fault.name == "budget spent twice"]
    with planted(twice):
        result = run(SHOW_ALL, [record(event())])
        assert pipeline.stream.releasing.release_window is pipeline.testing.release_window
    assert {r.number for r in result.releases} == {1, 2}


def test_what_was_planted_first_is_taken_out_when_the_rest_does_not_fit() -> None:
    tokens = WindowKey.tokens
    fault = Fault(
        "half",
        "A0",
        (
            ("pipeline.core.pseudonyms:WindowKey.tokens", lambda _: None),
            ("pipeline.core.pseudonyms:Router.partition", Edit("a text that is not there", "")),
        ),
    )
    with pytest.raises(DoesNotFit, match=r"half: .*Router.partition reads differently now"), planted(fault):
        pass
    assert WindowKey.tokens is tokens


def test_a_fault_of_a_function_that_is_gone_says_so() -> None:
    gone = Fault("gone", "A0", (("pipeline.core.pseudonyms:Router.none", lambda _: None),))
    with pytest.raises(DoesNotFit, match=r"there is no pipeline.core.pseudonyms:Router.none any more"), planted(gone):
        pass


def test_an_edit_keeps_what_the_function_sees() -> None:
    fault = Fault(
        "never over", "A0", (("pipeline.core.statistics:Statistic.moved", Edit("return 2 if", "return 3 if")),)
    )
    histogram = Statistic(description="", measures=("users",), max_cells=1, histogram=(1, 2))
    with planted(fault):
        assert histogram.moved("week") == 3
    assert histogram.moved("week") == 2


def test_a_fault_that_changes_nothing_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = Fault("none", "A8", (("pipeline.core.pseudonyms:Router.partition", lambda original: original),))
    monkeypatch.setitem(TRIALS, "A8", (next(attack.run for attack in ATTACKS if attack.id == "A8"), 1))
    assert not caught(harmless, seed=1)
