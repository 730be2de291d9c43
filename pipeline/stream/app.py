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
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import faust
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from pipeline.core.budget import OverBudget
from pipeline.core.ingest import Ingest
from pipeline.core.pseudonyms import KeyStore
from pipeline.core.statistics import Plan
from pipeline.declarations import Declarations, read_declarations
from pipeline.noise import OpenDPNoise
from pipeline.settings import Settings, SettingsError
from pipeline.stream.broker import is_embedded
from pipeline.stream.checkpoints import Checkpoints
from pipeline.stream.framework import EXIT_SOFTWARE, new_app
from pipeline.stream.heap import Heap
from pipeline.stream.ingesting import Idle, IngestHop
from pipeline.stream.keys import SharedKeys, open_keys, were_lost
from pipeline.stream.keywrapping import KeyStoreError, read_keks
from pipeline.stream.lanes import Lanes
from pipeline.stream.metering import Meter
from pipeline.stream.releaselog import Fenced, LogUnreadable
from pipeline.stream.releasing import KeyGone, ReleaseHop
from pipeline.stream.tallying import TallyHop
from pipeline.stream.topics import CONTRIBUTIONS, EVENTS, RELEASES, TALLIES
from pipeline.stream.transport import BatchSchema, Consumer, HoleInLog, Hop
from pipeline.stream.vitals import Vitals

IDLE_SECONDS = 1.0
SWEEP_SECONDS = 60.0
GIVE_BACK_SECONDS = 60.0

# hop → the topic that it reads, and the one that it writes
TOPICS_OF = {"ingest": (EVENTS, CONTRIBUTIONS), "tally": (CONTRIBUTIONS, TALLIES), "release": (TALLIES, RELEASES)}

log = logging.getLogger("headcount.worker")


def build_app(settings: Settings) -> faust.App:
    """The app under these settings. Raises where it must not start: no policy, no key, no budget, no topics."""
    logging.disable(logging.DEBUG)  # Faust, aiokafka and kafka-python quote keys and values there
    meter = Meter()
    declarations = read_declarations(settings, datetime.now(UTC).date())
    keeps = bool(settings.checkpoints) and "tally" in settings.hops
    needs_keys = keeps or bool({"ingest", "release"} & set(settings.hops))  # else what is added up stays sealed
    if needs_keys:
        read_keks(settings)  # whoever has none hears of it first
    hasty = is_embedded(settings.kafka())
    sizes = topic_sizes(settings, {topic for hop in settings.hops for topic in TOPICS_OF[hop]})
    if needs_keys and not hasty:  # it has begun with its keys, and gets the ends of its topics wrong
        check_keys(settings, sizes)
    # Who ingests draws the first key: others would have one of their own where the directory is not the shared one.
    keys = open_keys(settings, make="ingest" in settings.hops) if needs_keys else cast(SharedKeys, None)
    app = new_app(settings)

    async def send(topic: str, partition: int, value: bytes) -> None:
        await app.producer.send_and_wait(topic, None, value, partition, None, None)

    def ingest_hop() -> IngestHop:
        return IngestHop(
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

    bounded = declarations.policy.budget.bounded
    checkpoints = open_checkpoints(settings, keys, declarations.plan, bounded=bounded) if keeps else None
    tally_hop = TallyHop(
        declarations.plan,
        send,
        partitions=sizes.get(CONTRIBUTIONS, 0),
        bounded=bounded,
        meter=meter,
        checkpoints=checkpoints,
        every=settings.checkpoint_seconds,
    )
    release_hop = ReleaseHop(declarations.accountant, keys, OpenDPNoise(), settings.kafka(), meter)
    app.vitals = Vitals(declarations.accountant, meter, tally_hop, release_hop, replay=settings.clock == "replay")
    hops: dict[str, Hop] = {"tally": tally_hop, "release": release_hop}
    if "ingest" in settings.hops:
        hops["ingest"] = ingest_hop()
    app.transport.hops = {TOPICS_OF[name][0]: hops[name] for name in settings.hops}
    app.transport.hasty = hasty

    for name in settings.hops:
        app.agent(app.topic(TOPICS_OF[name][0], schema=BatchSchema(), allow_empty=True), name=name)(_following(app))

    @app.timer(IDLE_SECONDS)
    async def idle() -> None:
        consumer = app.consumer
        app.vitals.beat(consumer, app.rebalancing)
        if app.rebalancing or not isinstance(consumer, Consumer):
            return
        await consumer.look()
        for tp in consumer.assignment():
            hop = app.transport.hops[tp.topic]
            if isinstance(hop, IngestHop) and (asked := consumer.caught_up(tp)) is not None:
                await _or_die(hop.idle, Idle(tp.topic, tp.partition, asked))
        if needs_keys:
            await asyncio.to_thread(keys.forget_destroyed)

    app.timer(GIVE_BACK_SECONDS)(_giving_back(Heap()))

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

    _warn(declarations)
    return app


def _warn(declarations: Declarations) -> None:
    if not declarations.accountant.protects:
        log.warning("POLICY %s PROTECTS NOBODY: for tests on invented or public data only", declarations.policy.version)


def topic_sizes(settings: Settings, names: Collection[str]) -> dict[str, int]:
    """How many partitions each of these topics has, as the broker says."""
    admin = KafkaAdminClient(**settings.kafka())
    try:
        described = admin.describe_topics(list(names))
    finally:
        admin.close()
    sizes = {each["name"]: len(each["partitions"]) for each in described}
    if missing := [name for name in names if not sizes.get(name)]:
        raise SettingsError(f"topics are missing: {', '.join(missing)}; `headcount topics` makes them")
    return sizes


def open_checkpoints(settings: Settings, keys: KeyStore, plan: Plan, *, bounded: bool) -> Checkpoints:
    """Where checkpoints are kept. They are of the topic that is there now, by the broker's name for it."""
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


def check_keys(settings: Settings, sizes: Mapping[str, int]) -> None:
    """Refuses new keys where rows were made under others: every subject of an open window would become two."""
    made = {topic: sizes[topic] for topic in (CONTRIBUTIONS, TALLIES) if topic in sizes}
    with closing(KafkaConsumer(**settings.kafka())) as consumer:
        ends = consumer.end_offsets([TopicPartition(topic, n) for topic, size in made.items() for n in range(size)])
    if any(ends.values()) and were_lost(settings):  # in this order: who sends has keys by then
        raise KeyStoreError(
            f"the directory of keys is empty, and {', '.join(made)} hold what was made under other keys: "
            "is it mounted? If the keys are lost, docs/operators.md says under Keys what to do"
        )


def _following(app: faust.App) -> Callable[[Any], Awaitable[None]]:
    """An agent: hands on the batches of one topic."""
    lanes = Lanes(lambda batch: _or_die(app.consumer.follow, batch))

    async def follow(stream: Any) -> None:
        async for batch in stream:
            await lanes.add(batch)

    return follow


def _giving_back(heap: Heap) -> Callable[[], Awaitable[None]]:
    async def give_back() -> None:
        await asyncio.to_thread(heap.give_back, GIVE_BACK_SECONDS)

    return give_back


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
SPEAKABLE = (Fenced, HoleInLog, KeyGone, KeyStoreError, LogUnreadable, OverBudget)


def __getattr__(name: str) -> Any:
    """``faust -A pipeline.stream.app`` finds the app here; importing the module alone reads no environment."""
    if name == "app":
        return build_app(Settings.from_environment())
    raise AttributeError(name)
