"""Runs the Faust worker until it is told to stop."""

import gc
import logging
import os
import resource
import signal
import threading

import faust

from pipeline.health import served
from pipeline.logs import configure
from pipeline.settings import Settings
from pipeline.stream.app import build_app

STOP_SECONDS = 20.0  # less than a container is given
# A batch makes thousands of tuples that are gone with it, and no cycles. Looking for some every 700 objects, as Python
# does by itself, took a fifth of the core's time.
THRESHOLDS = 50_000, 20, 20

log = logging.getLogger("headcount.worker")


class Worker(faust.Worker):
    """Faust's, but that it ends when it is told to, also while a broker does not answer."""

    def _schedule_shutdown(self, number: signal.Signals) -> None:
        timer = threading.Timer(STOP_SECONDS, _give_up)
        timer.daemon = True
        timer.start()
        super()._schedule_shutdown(number)


def run_worker(settings: Settings, *, loglevel: str = "WARNING") -> None:
    """Blocks until SIGTERM or SIGINT. Raises where the worker must not start."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of its memory would hold keys and identifiers
    configure(settings.log, loglevel)
    app = build_app(settings)
    worker = Worker(app, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it writes to what others read as lines
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    with served(settings.http, app.vitals):
        worker.execute_from_commandline()


def _give_up() -> None:
    """What was not committed is read again by whoever gets the partitions."""
    log.warning("stopped: the broker did not answer, so the group will miss this worker only after its session")
    os._exit(0)
