"""Runs the Faust worker until it is told to stop."""

import faust

from pipeline.health import served
from pipeline.logs import configure
from pipeline.settings import Settings
from pipeline.stream.app import build_app


def run_worker(settings: Settings, *, loglevel: str = "WARNING") -> None:
    """Blocks until SIGTERM or SIGINT. Raises where the worker must not start."""
    configure(settings.log, loglevel)
    app = build_app(settings)
    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it writes to what others read as lines
    with served(settings.http, app.vitals):
        worker.execute_from_commandline()
