"""The edges at which a process kills itself: the moments between two steps, of which one is done and the other is not.

Nothing in the pipeline knows of them: in the process that is to die, and there alone, the function at the edge is
wrapped. The first worker that gets there the n-th time leaves a mark that says where it is, and dies by SIGKILL.
"""

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Edge:
    """``functions``: whose beginning, or whose end with ``after``, is the edge; ``most``: the last time that may be the
    one; ``command``: whose edge it is.
    """

    name: str
    functions: tuple[str, ...]
    after: bool = False
    most: int = 1
    command: str = "worker"


# fmt: off
EDGES = (
    Edge("after rows are written, before commit", ("pipeline.stream.ingesting:IngestHop.handle",), after=True, most=8),
    Edge("after fold, before tallies are sent", ("pipeline.stream.tallying:rejection_records",), most=8),
    Edge("after fold, before commit", ("pipeline.stream.tallying:TallyHop.handle",), after=True, most=8),
    Edge("after draw, before write", ("pipeline.stream.releaselog:ReleaseLog.commit",), most=2),
    Edge("after write, before acknowledgement", ("kafka:KafkaProducer.commit_transaction",), most=2),
    Edge("after acknowledgement, before keys are destroyed", ("pipeline.stream.releaselog:ReleaseLog.commit",),
         after=True, most=2),
    Edge("during checkpoint", tuple(f"pipeline.stream.checkpoints:{each}" for each in
                                    ("_write", "_sync", "Checkpoints._remove")), most=12),
    Edge("during snapshot", ("pipeline.warehouse.snapshots:make", "pipeline.warehouse.snapshots:_sync",
                             *(f"pipeline.warehouse.making:{each}" for each in
                               ("is_unread", "_duplicate", "_rows_since", "_advance", "_copy"))),
         after=True, most=8, command="project"),
)
# fmt: on


def arm(times: Mapping[str, int], mark: Path) -> None:
    """This process dies at the first of these edges that it reaches so many times."""
    for edge in EDGES:
        if edge.name in times:
            reach = _Countdown(edge.name, times[edge.name], mark)
            for function in edge.functions:
                owner, name = owner_of(function)
                setattr(owner, name, _wrapped(getattr(owner, name), reach, after=edge.after))


def owner_of(function: str) -> tuple[Any, str]:
    """The module or the class that has it, and its name there."""
    module, _, path = function.partition(":")
    *above, name = path.split(".")
    owner = import_module(module)
    for each in above:
        owner = getattr(owner, each)
    return owner, name


class _Countdown:
    def __init__(self, name: str, times: int, mark: Path) -> None:
        self._name, self._left, self._mark = name, times, mark

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._mark.write_text(self._name)
            os.kill(os.getpid(), signal.SIGKILL)


def _wrapped(function: Callable[..., Any], reach: Callable[[], None], *, after: bool) -> Callable[..., Any]:
    if iscoroutinefunction(function):

        @wraps(function)
        async def waited(*args: Any, **kwargs: Any) -> Any:
            if not after:
                reach()
            result = await function(*args, **kwargs)
            if after:
                reach()
            return result

        return waited

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not after:
            reach()
        result = function(*args, **kwargs)
        if after:
            reach()
        return result

    return called
