"""What can go wrong between the log of releases and an analyst.

    WarehouseError
    ├── UnusableReleaseError   a record of the log that cannot be folded: the projector stops
    ├── BusyError              another process writes here
    └── NothingPublishedError  there is no file of statistics yet

Messages say what to do next and never quote a record.
"""


class WarehouseError(Exception):
    """The base of all errors of the warehouse."""


class UnusableReleaseError(WarehouseError):
    """A release that cannot be folded.

    ``position``: its place in the batch; ``reason``: one of a few fixed sentences.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"release {position} of the batch cannot be applied: {reason}")
        self.position = position
        self.reason = reason


class BusyError(WarehouseError):
    """Another process holds what only one may write."""


class NothingPublishedError(WarehouseError):
    """No file of statistics is there yet."""
