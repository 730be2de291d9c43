"""The Faust worker: three thin agents over batched streams. ``headcount worker`` and ``faust -A pipeline.stream.app
worker`` run it.

Crash only: whatever a stage does not expect ends the process at once, before anything is acknowledged, and the log
is read again. An exception that Faust were left to handle would be acknowledged, and its events lost; its text
could quote one.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
from kafka import KafkaAdminClient

from pipeline.core.budget import OverBudget
from pipeline.core.ingest import Ingest
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.statistics import Plan
from pipeline.declarations import read_declarations
from pipeline.noise import OpenDPNoise
from pipeline.settings import Settings, SettingsError
from pipeline.stream.broker import is_embedded
from pipeline.stream.checkpoints import Checkpoints
from pipeline.stream.framework import new_app
from pipeline.stream.ingesting import Idle, IngestHop
from pipeline.stream.keys import open_keys
from pipeline.stream.keywrapping import KeyStoreError
from pipeline.stream.metering import Meter
from pipeline.stream.releaselog import LogUnreadable
from pipeline.stream.releasing import KeyGone, ReleaseHop
from pipeline.stream.tallying import TallyHop
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, TALLIES
from pipeline.stream.transport import BatchSchema, Consumer, HoleInLog
from pipeline.stream.vitals import Vitals

EXIT_SOFTWARE = 70
IDLE_SECONDS = 1.0
SWEEP_SECONDS = 60.0

log = logging.getLogger("headcount.worker")


def build_app(settings: Settings) -> faust.App:
    """The app under these settings. Raises where it must not start: no policy, no key, no budget, no topics."""
    logging.disable(logging.DEBUG)  # Faust, aiokafka and kafka-python quote keys and values there
    meter = Meter()
    declarations = read_declarations(settings, datetime.now(UTC).date())
    keys = open_keys(settings)
    sizes = topic_sizes(settings)
    app = new_app(settings)

    async def send(topic: str, partition: int, value: bytes) -> None:
        await app.producer.send_and_wait(topic, None, value, partition, None, None)

    ingest_hop = IngestHop(
        Ingest(
            declarations.registry,
            declarations.plan,
            declarations.policy,
            keys,
            sizes[CONTRIBUTIONS],
            settings.span if settings.clock == "replay" else (None, None),
        ),
        send,
        partitions=sizes[CONTRIBUTIONS],
        sources=sizes[EVENTS],
        born=keys.born(),
        replay=settings.clock == "replay",
        meter=meter,
    )
    checkpoints = open_checkpoints(settings, keys, declarations.plan, bounded=declarations.policy.budget.bounded)
    tally_hop = TallyHop(
        declarations.plan,
        send,
        partitions=sizes[CONTRIBUTIONS],
        bounded=declarations.policy.budget.bounded,
        meter=meter,
        checkpoints=checkpoints,
        every=settings.checkpoint_seconds,
    )
    release_hop = ReleaseHop(declarations.accountant, keys, OpenDPNoise(), settings.kafka(), meter)
    app.vitals = Vitals(declarations.accountant, meter, tally_hop, release_hop, replay=settings.clock == "replay")
    app.transport.hops = {EVENTS: ingest_hop, CONTRIBUTIONS: tally_hop, TALLIES: release_hop}
    app.transport.hasty = is_embedded(settings.kafka())

    async def follow(stream: Any) -> None:
        async for batch in stream:
            await _or_die(app.consumer.follow, batch)

    for name, topic in (("ingest", EVENTS), ("tally", CONTRIBUTIONS), ("release", TALLIES)):
        app.agent(app.topic(topic, schema=BatchSchema(), allow_empty=True), name=name)(follow)

    @app.timer(IDLE_SECONDS)
    async def idle() -> None:
        consumer = app.consumer
        app.vitals.beat(consumer, app.rebalancing)
        if app.rebalancing or not isinstance(consumer, Consumer):
            return
        await consumer.look()
        for tp in consumer.assignment():
            if tp.topic == EVENTS and (asked := consumer.caught_up(tp)) is not None:
                await _or_die(ingest_hop.idle, Idle(tp.topic, tp.partition, asked))
        await asyncio.to_thread(keys.forget_destroyed)

    if checkpoints is not None:

        @app.timer(SWEEP_SECONDS)
        async def sweep() -> None:
            await asyncio.to_thread(checkpoints.sweep)

    @app.on_before_shutdown.connect
    async def finish(*_: Any, **__: Any) -> None:
        committed = await app.consumer.finish()
        await tally_hop.save()
        await app.consumer.leave()
        if committed:
            log.info("stopped: what was begun is handled and committed")

    if not declarations.accountant.protects:
        log.warning(
            "POLICY %s PROTECTS NOBODY: for tests on invented or public data only",
            declarations.policy.version,
        )
    return app


def topic_sizes(settings: Settings) -> dict[str, int]:
    """How many partitions each topic has, as the broker says."""
    admin = KafkaAdminClient(**settings.kafka())
    try:
        described = admin.describe_topics([EVENTS, CONTRIBUTIONS, TALLIES])
    finally:
        admin.close()
    sizes = {each["name"]: len(each["partitions"]) for each in described}
    if missing := [name for name in (EVENTS, CONTRIBUTIONS, TALLIES) if not sizes.get(name)]:
        raise SettingsError(f"topics are missing: {', '.join(missing)}; `headcount topics` makes them")
    return sizes


def open_checkpoints(settings: Settings, keys: KeyStore, plan: Plan, *, bounded: bool) -> Checkpoints | None:
    """Where checkpoints are kept, if anywhere. They are of the topic that is there now, by the broker's name for it."""
    if not settings.checkpoints:
        return None
    admin = KafkaAdminClient(**settings.kafka())
    try:
        [described] = admin.describe_topics([CONTRIBUTIONS])
    finally:
        admin.close()
    try:
        checkpoints = Checkpoints(Path(settings.checkpoints), keys, plan, str(described["topic_id"]), bounded=bounded)
        checkpoints.sweep()
        return checkpoints
    except OSError as error:
        raise SettingsError(f"HEADCOUNT_CHECKPOINTS cannot be used ({type(error).__name__})") from None


async def _or_die(handle: Callable[[Any], Awaitable[object]], batch: Any) -> None:
    try:
        await handle(batch)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # the class only: a message could quote an event
        text = str(error) if isinstance(error, SPEAKABLE) else ""
        log.error("a %s batch could not be handled (%s) %s", batch.topic, type(error).__name__, text)
        sys.stderr.flush()
        os._exit(EXIT_SOFTWARE)


# Errors whose text is ours and says what to do; no other text is printed.
SPEAKABLE = (HoleInLog, KeyGone, KeyStoreError, LogUnreadable, OverBudget)


def __getattr__(name: str) -> Any:
    """``faust -A pipeline.stream.app`` finds the app here; importing the module alone reads no environment."""
    if name == "app":
        return build_app(Settings.from_environment())
    raise AttributeError(name)
