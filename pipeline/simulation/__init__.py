"""An application and its users, invented: weeks of usage events that look like real ones and are nobody's.

Pure and seeded: the same arguments give the same events, and the first weeks do not depend on how many follow.

    for day in simulate(seed=1, users=500, first_day=date(2026, 6, 1), days=28):
        ...
"""

from pipeline.simulation.days import Broken, Day, Use, reaching, simulate
from pipeline.simulation.writing import APPLICATION, encode_use

__all__ = ["APPLICATION", "Broken", "Day", "Use", "encode_use", "reaching", "simulate"]
