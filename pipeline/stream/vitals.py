"""How a worker is: its event loop writes it down every second, and whoever asks reads that, from any thread.

No label holds anything that an application chose: topics, partitions, hops, reasons, steps and kinds of windows are the
pipeline's own words, and a month is a month.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from pipeline.core.budget import Accountant, epsilon
from pipeline.core.ingest import STEPS
from pipeline.core.outcomes import Reason
from pipeline.core.windows import KINDS, Calendar, Window, date_of, window_of
from pipeline.stream.metering import Meter
from pipeline.stream.releasing import ReleaseHop
from pipeline.stream.tallying import TallyHop
from pipeline.stream.transport import Consumer

STUCK_SECONDS = 60.0  # an event loop that has not turned for so long is stuck; no batch takes that long
_STEPS = (*(step.__name__ for step in STEPS), "fold", "count", "checkpoint", "release", "send")
_REJECTED: list[tuple[str, Reason]] = [("ingest", reason) for reason in Reason if reason != Reason.DUPLICATE]
_REJECTED += [("tally", Reason.LATE), ("tally", Reason.DUPLICATE)]

Values = Sequence[tuple[tuple[str, ...], float]]
Gauge = tuple[str, str, tuple[str, ...], Values]  # name, help, labels, values


@dataclass(frozen=True)
class Beat:
    """What the loop wrote down last."""

    at: float = 0.0  # time.monotonic
    member: bool = False
    unready: str = "it has not started yet"
    gauges: tuple[Gauge, ...] = ()


class Vitals:
    """The health of one worker. ``clock``: seconds since 1970."""

    def __init__(
        self,
        accountant: Accountant,
        meter: Meter,
        tally: TallyHop,
        release: ReleaseHop,
        *,
        replay: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._accountant, self._meter, self._tally, self._release = accountant, meter, tally, release
        self._calendar = Calendar(accountant.policy.timezone)
        self._replay, self._clock = replay, clock
        self._beat = Beat()

    def beat(self, consumer: Any, rebalancing: bool) -> None:
        """To be called by the event loop, about every second."""
        unready, gauges = "it is not connected yet", []
        if isinstance(consumer, Consumer):
            unready = self._unready(consumer, rebalancing)
            gauges = [*self._of_partitions(consumer), *self._of_state(), *self._of_budget()]
        member = isinstance(consumer, Consumer) and consumer.is_member()
        gauges.append(("headcount_ready", "1 while /readyz says so", (), [((), float(not unready))]))
        self._beat = Beat(time.monotonic(), member, unready, tuple(gauges))

    def live(self) -> str:
        """What is wrong with the process, such that starting it again may help."""
        beat = self._beat
        if not beat.at:
            return beat.unready
        if (silent := time.monotonic() - beat.at) > STUCK_SECONDS:
            return f"the event loop has not turned for {silent:.0f} s"
        return "" if beat.member else "it is not a member of the consumer group"

    def ready(self) -> str:
        """What it still waits for before it counts what arrives."""
        return self.live() or self._beat.unready

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client wants them."""
        for name, text, labels, values in self._beat.gauges:
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for given, value in values:
                gauge.add_metric(given, value)
            yield gauge
        meter = self._meter
        accepted = CounterMetricFamily("headcount_events_accepted", "events that passed the first hop")
        accepted.add_metric([], meter.accepted["ingest"])
        yield accepted
        rejected = CounterMetricFamily(
            "headcount_events_rejected", "events that were not counted", labels=["hop", "reason"]
        )
        for hop, reason in _REJECTED:
            rejected.add_metric([hop, reason], meter.rejected[hop, reason])
        yield rejected
        steps = CounterMetricFamily("headcount_step_seconds", "seconds spent in each step", labels=["step"])
        for step in _STEPS:
            steps.add_metric([step], meter.seconds[step])
        yield steps
        windows = CounterMetricFamily("headcount_windows_released", "windows that this worker has released")
        windows.add_metric([], meter.released)
        yield windows

    def _unready(self, consumer: Consumer, rebalancing: bool) -> str:
        assigned = sorted(consumer.assignment())
        if rebalancing or not consumer.is_member():
            return "partitions are being given out"
        unmade = [tp for tp in assigned if not consumer.made(tp)]
        return (
            ""
            if not unmade
            else "it reads what was written before: "
            + ", ".join(
                f"{tp.topic}/{tp.partition}, {consumer.behind(tp) or 'an unknown number of'} records to go"
                for tp in unmade
            )
        )

    def _of_partitions(self, consumer: Consumer) -> Iterator[Gauge]:
        now, assigned = self._clock(), sorted(consumer.assignment())
        named = [((tp.topic, str(tp.partition)), tp) for tp in assigned]
        labels = ("topic", "partition")
        behind = [(names, float(lag)) for names, tp in named if (lag := consumer.behind(tp)) is not None]
        asked = [(names, max(0.0, now - at)) for names, tp in named if (at := consumer.answered(tp)) is not None]
        yield (
            "headcount_partition_assigned",
            "1 for each partition of this worker",
            labels,
            [(n, 1.0) for n, _ in named],
        )
        yield "headcount_lag_records", "records of the log that are not handled yet", labels, behind
        yield "headcount_broker_silent_seconds", "since the broker answered for the partition", labels, asked

    def _of_state(self) -> Iterator[Gauge]:
        states = [each.state for each in self._tally.assigned.values()]
        windows: set[Window] = {window for state in states for window in state.windows}
        rows = sum(window.accepted for state in states for window in state.windows.values())
        size = sum(state.seen.nbytes + sum(w.nbytes for w in state.windows.values()) for state in states)
        closing = self._calendar.start(min(windows).end) + self._accountant.policy.lateness if windows else None
        overdue = 0.0 if closing is None or self._replay else max(0.0, self._clock() - closing)
        kinds = [((kind,), float(sum(window.kind == kind for window in windows))) for kind in KINDS]
        yield "headcount_open_windows", "windows that hold events and are not closed", ("kind",), kinds
        yield "headcount_oldest_window_overdue_seconds", "since it should have closed", (), [((), overdue)]
        yield "headcount_state_rows", "rows in open windows, one per event and window", (), [((), float(rows))]
        yield "headcount_state_bytes", "the memory that they take", (), [((), float(size))]

    def _of_budget(self) -> Iterator[Gauge]:
        """Of this month and the last, by the releases that are in the log. The releaser alone knows."""
        ledger, month = self._release.ledger(), window_of("month", self._calendar.day(self._clock()))
        months = [date_of(window_of("month", month.start - 1).start), date_of(month.start)]
        text = "epsilon of the policy's cap that the month's releases have not spent"
        left = [((each.isoformat()[:7],), self._left(ledger.rho(each))) for each in months]
        yield "headcount_budget_left_epsilon", text, ("month",), left if ledger.spent else []

    def _left(self, spent: float) -> float:
        budget = self._accountant.policy.budget
        return budget.max_epsilon - (epsilon(spent, budget.delta / 2) if spent else 0.0)
