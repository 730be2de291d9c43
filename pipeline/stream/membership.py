"""Whether a worker of this host is a member of the consumer group: ``python -m pipeline.stream.membership``.

The health check of a worker's container. A worker that hangs stops answering the broker, which puts it out of the
group after the session timeout; a process that is merely there says nothing.
"""

import logging
import socket
import sys

import click
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.settings import Settings


def is_member(settings: Settings) -> bool:
    """Whether the broker counts an address of this host among the group's members."""
    addresses = {"127.0.0.1", *socket.gethostbyname_ex(socket.gethostname())[2]}
    admin = KafkaAdminClient(**settings.kafka())
    try:
        group = admin.describe_groups([settings.group])[settings.group]
    finally:
        admin.close()
    return any(member["client_host"].lstrip("/") in addresses for member in group["members"])


def main() -> int:
    """0 where it is, 1 where it is not or where nobody can tell."""
    logging.disable()
    try:
        member = is_member(Settings.from_environment())
    except (KafkaError, OSError, ValueError) as error:
        click.echo(f"the broker cannot be asked ({type(error).__name__})")
        return 1
    click.echo("a worker of this host is in the group" if member else "no worker of this host is in the group")
    return 0 if member else 1


if __name__ == "__main__":
    sys.exit(main())
