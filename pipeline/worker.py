"""Runs the Faust worker until it is told to stop."""

import logging

import faust

from pipeline.settings import Settings
from pipeline.stream.app import build_app


def run_worker(settings: Settings, *, loglevel: str = "WARNING") -> None:
    """Blocks until SIGTERM or SIGINT. Raises where the worker must not start."""
    app = build_app(settings)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    faust.Worker(app, loglevel=loglevel, redirect_stdouts=False, quiet=True).execute_from_commandline()
