"""Twelve faults that would break the promise, as data: what each is, where it is planted, and which attack must catch
it.

A fault is an edit of one function: a text in its source that is replaced by another, or a function around it. Nothing
here is in force unless :func:`planted` holds it.
"""

import copy
import inspect
import itertools
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np

from pipeline.core.outcomes import Reason
from pipeline.core.tallies import Tally

Around = Callable[[Any], Any]  # the function as it is → the faulty one


@dataclass(frozen=True)
class Edit:
    """A text that is once in a function's source, and what is put in its place."""

    old: str
    new: str


@dataclass(frozen=True)
class Fault:
    """``edits``: where (the module, a colon, and the function or Class.method) and how. ``caught_by``: the attack."""

    name: str
    caught_by: str
    edits: tuple[tuple[str, Edit | Around], ...]


class DoesNotFit(RuntimeError):
    """The code has changed, and a fault can no longer be planted as the table says: change the table."""


_CHANGE = "change the table in pipeline/audit/faults.py"
_numbers = itertools.count(1)


def _every_delivery_is_new(tokens: Any) -> Any:
    def around(self: Any, identity: Any) -> Any:
        return np.array([next(_numbers) for _ in tokens(self, identity)], dtype=np.uint64)

    return around


def _anywhere(partitions: Any) -> Any:
    def around(self: Any, subjects: Any, codes: Any) -> Any:
        return (partitions(self, subjects, codes) + np.arange(len(codes))) % self._count

    return around


def _forgetful(begin: Any) -> Any:
    def around(self: Any, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.keys = set()
        if hasattr(self, "ledger"):  # which would refuse to pay twice
            self.ledger = type(self.ledger)()

    return around


def _one_cell_more(begin: Any) -> Any:
    def around(self: Any, partition: int, partitions: int, plan: Any, **more: Any) -> None:
        looser = copy.copy(plan)
        looser.statistics = {
            name: msgspec.structs.replace(
                s,
                max_cells=s.max_cells + 1
                if isinstance(s.max_cells, int)
                else {k: n + 1 for k, n in s.max_cells.items()},
            )
            if s.dimensions
            else s
            for name, s in plan.statistics.items()
        }
        begin(self, partition, partitions, looser, **more)

    return around


def _late_rows_are_remembered(fold: Any) -> Any:
    def around(self: Any, batch: Any) -> Any:
        rejections = fold(self, batch)
        self.late = getattr(self, "late", 0) + sum(each.reason is Reason.LATE for each in rejections)
        return rejections

    return around


def _late_rows_are_added(advance: Any) -> Any:
    """What came late is added to the next tally as it is, beside the bounds."""

    def around(self: Any, progress: Any) -> Iterator[Any]:
        for given in advance(self, progress):
            late = getattr(self, "late", 0)
            if isinstance(given, Tally) and late:
                self.late = 0
                statistics = {
                    name: msgspec.structs.replace(s, total_events=s.total_events + late)
                    for name, s in given.statistics.items()
                }
                yield msgspec.structs.replace(given, statistics=statistics)
            else:
                yield given

    return around


def _salted(_: Any) -> Any:
    """The same noise in every call: a hash of a salt and the place."""

    def around(_: Any, values: Any, sigma: float) -> list[int]:
        return [
            value + round(sigma * NormalDist().inv_cdf(((place + 1) * 0.6180339887498949) % 1))
            for place, value in enumerate(values)
        ]

    return around


def _less_noise(price: Any) -> Any:
    def around(self: Any, *arguments: Any) -> Any:
        right = price(self, *arguments)
        return msgspec.structs.replace(right, sigma=right.sigma / math.sqrt(2))

    return around


def _exact_total(release_window: Any) -> Any:
    def around(accountant: Any, window: Any, names: Any, tallies: Any, *more: Any) -> Any:
        parts, names = list(tallies), list(names)
        found = []
        for release in release_window(accountant, window, names, parts, *more):
            counted = [part.statistics[release.statistic] for part in parts]
            total = [sum(s.total_users for s in counted), sum(s.total_events for s in counted)]
            has = release.total is not None
            found.append(msgspec.structs.replace(release, total=total[: len(release.measures)]) if has else release)
        return found

    return around


def _released_twice(release_window: Any) -> Any:
    def around(accountant: Any, window: Any, names: Any, tallies: Any, key: Any, noise: Any, *more: Any) -> Any:
        parts, names = list(tallies), list(names)
        once = release_window(accountant, window, names, parts, key, noise, *more)
        again = release_window(accountant, window, names, parts, key, noise)
        return once + [msgspec.structs.replace(release, number=2) for release in again]

    return around


_STATE = "pipeline.core.tallies:PartitionState"
_RELEASE = "pipeline.core.releasing:_release"
_RELEASE_WINDOW = "pipeline.core.releasing:release_window"
_NOT_ZERO = "(exact[i] if threshold is None else n >= threshold)]"

FAULTS = (
    Fault("no de-duplication", "A0", (("pipeline.core.pseudonyms:WindowKey.tokens", _every_delivery_is_new),)),
    Fault("bounds per wrong partition", "A0", (("pipeline.core.pseudonyms:Router.partitions", _anywhere),)),
    Fault(
        "true count against k",
        "A3",
        ((_RELEASE, Edit("or n >= threshold]", "or exact[i] >= 50]")),),
    ),
    Fault("redraw on retry", "A4", (("pipeline.stream.releaselog:ReleaseLog.__init__", _forgetful),)),
    Fault("max_cells off by one", "A0", ((f"{_STATE}.__init__", _one_cell_more),)),
    Fault(
        "an unclipped late event",
        "A0",
        ((f"{_STATE}.fold", _late_rows_are_remembered), (f"{_STATE}.advance", _late_rows_are_added)),
    ),
    Fault(
        "only touched keys published",
        "A0",
        ((_RELEASE, Edit("else accountant.plan.declared_cells(statistic)", "else sorted(merged.of)")),),
    ),
    Fault("salt noise", "A1", (("pipeline.noise:OpenDPNoise.add", _salted),)),
    Fault("sigma a factor √2 wrong", "A1", (("pipeline.core.budget:Accountant.price", _less_noise),)),
    Fault("exact total beside suppressed cells", "A5", ((_RELEASE_WINDOW, _exact_total),)),
    Fault(
        "zero cells of a catalogue left out",
        "A7",
        ((_RELEASE, Edit("threshold is None or n >= threshold]", _NOT_ZERO)),),
    ),
    Fault("budget spent twice", "A4", ((_RELEASE_WINDOW, _released_twice),)),
)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The code with the fault, wherever its functions are known by name in this process; afterwards as it was."""
    undo: list[Callable[[], None]] = []
    try:
        for where, how in fault.edits:
            undo += _replace(fault.name, where, how)
        yield
    finally:
        for each in reversed(undo):
            each()


def _replace(fault: str, where: str, how: Edit | Around) -> list[Callable[[], None]]:
    module_name, _, path = where.partition(":")
    module = import_module(module_name)
    *classes, name = path.split(".")
    owner: Any = module
    try:
        for each in classes:
            owner = getattr(owner, each)
        original = getattr(owner, name)
    except AttributeError:
        raise DoesNotFit(f"{fault}: there is no {where} any more; {_CHANGE}") from None
    faulty = _edited(fault, where, how, original, vars(module)) if isinstance(how, Edit) else how(original)
    # A function may have been imported by name elsewhere.
    owners = [owner] if classes else [m for n, m in list(sys.modules.items()) if n.split(".")[0] == "pipeline"]
    places = [(place, known) for place in owners for known, value in list(vars(place).items()) if value is original]
    for place, known in places:
        setattr(place, known, faulty)
    return [partial(setattr, place, known, original) for place, known in places]


def _edited(fault: str, where: str, edit: Edit, original: Any, names: dict[str, Any]) -> Any:
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(edit.old) != 1:
        raise DoesNotFit(f"{fault}: {where} reads differently now; {_CHANGE}")
    made: dict[str, Any] = {}
    exec(compile(source.replace(edit.old, edit.new), f"<{fault}>", "exec"), names, made)  # noqa: S102 - our own source
    return made[original.__name__]
