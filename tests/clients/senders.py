"""Clients of every kind, each of which sends the same uses of the application in its own way."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import cloudevents.core.bindings.kafka as v2
import cloudevents.v1.kafka as v1
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as OlderCloudEvent
from confluent_kafka import Producer
from kafka import KafkaProducer

from pipeline.core.events import BATCH, NDJSON, STRUCTURED
from pipeline.emitter import UsageEmitter
from pipeline.stream.topics import EVENTS

TYPE = "usage.feature.used.v1"
SEVERAL = 10  # events in a record, where a client sends more than one


class Use(NamedTuple):
    """One use of one feature by one subject."""

    number: int
    feature: str
    platform: str
    subject: str
    time: datetime

    @property
    def id(self) -> str:
        return f"{self.feature}-{self.number}"

    @property
    def data(self) -> dict[str, Any]:
        return {"feature": self.feature, "platform": self.platform}

    @property
    def attributes(self) -> dict[str, str]:
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": "elsewhere",
            "type": TYPE,
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "subject": self.subject,
        }


class Message(NamedTuple):
    """What a client hands to its Kafka library."""

    value: bytes
    headers: list[tuple[str, bytes]]
    key: bytes | None = None


Send = Callable[[str, list[Use]], None]  # address of a broker, uses


def text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def structured(use: Use) -> dict[str, Any]:
    return {**use.attributes, "data": use.data}


def some(uses: list[Use]) -> Iterator[list[Use]]:
    for start in range(0, len(uses), SEVERAL):
        yield uses[start : start + SEVERAL]


# Forms, written by hand.


def singles(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        yield Message(text(structured(use)), [("content-type", STRUCTURED.encode())], use.subject.encode())


def arrays(uses: list[Use]) -> Iterator[Message]:
    for part in some(uses):
        yield Message(text([structured(use) for use in part]), [("content-type", BATCH.encode())], b"any")


def lines(uses: list[Use]) -> Iterator[Message]:
    for part in some(uses):
        value = b"\n".join(text(structured(use)) for use in part)
        yield Message(value, [("content-type", NDJSON[0].encode())])


def binary(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        headers = [(f"ce_{name}", value.encode()) for name, value in use.attributes.items()]
        yield Message(text(use.data), [("content-type", b"application/json"), *headers], use.subject.encode())


def without_headers(form: Callable[[list[Use]], Iterable[Message]]) -> Callable[[list[Use]], Iterator[Message]]:
    def bare(uses: list[Use]) -> Iterator[Message]:
        for message in form(uses):
            yield message._replace(headers=[])

    return bare


def with_carriage_returns(uses: list[Use]) -> Iterator[Message]:
    for message in lines(uses):
        yield message._replace(value=message.value.replace(b"\n", b"\r\n") + b"\r\n")


# The JavaScript SDK (its version 10), as a program that uses KafkaJS sends what it makes.


def javascript_structured(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        first = {"id": use.id, "time": f"{use.time:%Y-%m-%dT%H:%M:%S.000Z}"}  # its order, and always milliseconds
        value = text({**first, **{n: v for n, v in structured(use).items() if n not in first}})
        yield Message(value, [("content-type", b"application/cloudevents+json; charset=utf-8")])


def javascript_binary(uses: list[Use]) -> Iterator[Message]:
    for message in binary(uses):  # no datacontenttype, no content-type
        yield message._replace(headers=message.headers[1:], key=None)


def javascript_binary_typed(uses: list[Use]) -> Iterator[Message]:
    for use, message in zip(uses, binary(uses), strict=True):  # the type is said twice, and the key once more
        more = [("ce_datacontenttype", b"application/json"), ("ce_partitionkey", use.subject.encode())]
        yield message._replace(headers=[*message.headers, *more])


def capitalised(uses: list[Use]) -> Iterator[Message]:
    for message in binary(uses):
        yield message._replace(headers=[(name.title(), value) for name, value in message.headers])


# The CloudEvents project's package for Python, its present interface and the one before.


def package_structured(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        yield package_message(v2.to_structured_event(package_event(use)))


def package_binary(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        yield package_message(v2.to_binary_event(package_event(use)))


def package_keyed(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        event = package_event(use, datacontenttype="application/json", partitionkey=use.subject)
        yield package_message(v2.to_binary_event(event))


def older_structured(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        yield package_message(v1.to_structured(OlderCloudEvent(use.attributes, use.data)))


def older_binary(uses: list[Use]) -> Iterator[Message]:
    for use in uses:
        yield package_message(
            v1.to_binary(OlderCloudEvent({**use.attributes, "datacontenttype": "application/json"}, use.data))
        )


def package_event(use: Use, **more: str) -> CloudEvent:
    return CloudEvent({**use.attributes, "time": use.time, **more}, use.data)


def package_message(made: Any) -> Message:
    value, key = (part.encode() if isinstance(part, str) else part for part in (made.value, made.key))
    return Message(value, list(made.headers.items()), key)


# The libraries that the messages go through.


def librdkafka(codec: str, form: Callable[[list[Use]], Iterable[Message]]) -> Send:
    def send(address: str, uses: list[Use]) -> None:
        producer = Producer({"bootstrap.servers": address, "compression.type": codec, "linger.ms": 20})
        failed: list[Any] = []
        for message in form(uses):
            producer.produce(
                EVENTS,
                value=message.value,
                key=message.key,
                headers=message.headers,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        assert producer.flush(20) == 0
        assert failed == []

    return send


def kafka_python(form: Callable[[list[Use]], Iterable[Message]]) -> Send:
    def send(address: str, uses: list[Use]) -> None:
        producer = KafkaProducer(bootstrap_servers=address)
        futures = [producer.send(EVENTS, value=m.value, key=m.key, headers=m.headers) for m in form(uses)]
        for future in futures:
            future.get(20)
        producer.close()

    return send


def emitter(address: str, uses: list[Use]) -> None:
    with UsageEmitter("elsewhere", bootstrap_servers=address) as usage:
        for use in uses:
            assert usage.emit(use.feature, subject=use.subject, time=use.time, id=use.id, platform=use.platform)
        assert usage.flush(20)


FORMS = {"structured": singles, "array": arrays, "ndjson": lines, "binary": binary}
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

CLIENTS: dict[str, Send] = {
    "emitter": emitter,
    **{f"librdkafka.{codec}.{name}": librdkafka(codec, form) for codec in CODECS for name, form in FORMS.items()},
    "librdkafka.bare.structured": librdkafka("none", without_headers(singles)),
    "librdkafka.bare.array": librdkafka("none", without_headers(arrays)),
    "librdkafka.bare.ndjson": librdkafka("none", without_headers(lines)),
    "librdkafka.crlf": librdkafka("none", with_carriage_returns),
    "cloudevents.structured": kafka_python(package_structured),
    "cloudevents.binary": kafka_python(package_binary),
    "cloudevents.binary.keyed": kafka_python(package_keyed),
    "cloudevents.v1.structured": kafka_python(older_structured),
    "cloudevents.v1.binary": kafka_python(older_binary),
    "javascript.structured": kafka_python(javascript_structured),
    "javascript.binary": kafka_python(javascript_binary),
    "javascript.binary.typed": kafka_python(javascript_binary_typed),
    "capitalised.headers": kafka_python(capitalised),
}
