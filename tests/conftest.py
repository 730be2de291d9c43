"""How the tests are shared out where several processes run them: ``make test`` says ``-n auto --dist loadfile``."""

import os

import pytest
from hypothesis import HealthCheck, settings

# No example fails for its time: it says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for brokers and workers."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs begin first, so that at the end nobody waits for a long one. Files stay together."""
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)
