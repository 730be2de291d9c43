"""Faust as it is configured here: at least once, no tables, no leader, no web server, nothing declared by itself."""

import logging
import os
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

import faust
from yarl import URL

from pipeline.settings import Settings
from pipeline.stream import pieces, unreadable
from pipeline.stream.transport import Transport

EXIT_SOFTWARE = 70

log = logging.getLogger("headcount.worker")


class App(faust.App):
    """An app that ends with any of its parts: Faust goes on without, still in the group, and nothing moves."""

    def _crash(self, reason: BaseException) -> None:
        log.error("a part of this worker has stopped (%s)", type(reason).__name__)
        sys.stderr.flush()
        os._exit(EXIT_SOFTWARE)


def new_app(settings: Settings) -> faust.App:
    """An app without agents."""
    unreadable.install()
    pieces.install()
    app = App(
        settings.consumer_group,
        broker=[URL(f"kafka://{each}") for each in settings.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        broker_client_id=f"headcount-{os.getpid()}",  # so that the broker's word on members names a process
        store="memory://",
        datadir=Path(tempfile.gettempdir(), "headcount-faust"),  # never used: there are no tables
        processing_guarantee="at_least_once",
        autodiscover=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        web_bind="127.0.0.1",  # Faust's own command line starts its web server all the same
        web_tables_enabled=False,
        web_router_enabled=False,
        worker_redirect_stdouts=False,
        broker_commit_interval=1.0,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        broker_request_timeout=max(90.0, settings.session_timeout),
        broker_max_poll_records=30_000,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=16 << 20,
        producer_max_request_size=16 << 20,
        producer_acks=-1,
        producer_linger=0,
        stream_buffer_maxsize=64,
        stream_wait_empty=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


def _credentials(settings: Settings) -> Any:
    """What :meth:`Settings.kafka` says to every other client, in Faust's words."""
    context = None
    if "SSL" in settings.security_protocol:
        context = ssl.create_default_context(cafile=settings.ssl_cafile or None)
        if settings.ssl_certfile:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile or None)
    if "SASL" in settings.security_protocol:
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
