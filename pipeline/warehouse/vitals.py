"""How the projector is, for whoever asks over HTTP."""

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from pipeline.warehouse.projector import Projector
from pipeline.warehouse.snapshots import LINK

STUCK_SECONDS = 300.0  # folding or publishing takes seconds, a broker that is away costs none


class ProjectorVitals:
    """The health of one projector."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._started = time.monotonic()

    def live(self) -> str:
        """What is wrong with the process."""
        silent = time.monotonic() - max(self._projector.turned, self._started)
        return f"it has been at one thing for {silent:.0f} s" if silent > STUCK_SECONDS else ""

    def ready(self) -> str:
        """What readers still wait for."""
        return self.live() or ("" if self._age() is not None else "nothing is published yet")

    def collect(self) -> Iterator[Metric]:
        """The metrics, as Prometheus' client wants them."""
        age, behind = self._age(), self._projector.behind
        for name, text, value in (
            ("headcount_snapshot_age_seconds", "since the newest snapshot was published", age),
            ("headcount_lag_releases", "records of the log of releases that are not folded yet", behind),
            ("headcount_ready", "1 while /readyz says so", float(not self.ready())),
        ):
            gauge = GaugeMetricFamily(name, text)
            if value is not None:
                gauge.add_metric([], value)
            yield gauge

    def _age(self) -> float | None:
        try:
            return max(0.0, time.time() - (self._projector.directory / LINK).stat().st_mtime)
        except OSError:
            return None
