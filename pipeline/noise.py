"""The one source of randomness in what is released: OpenDP's discrete Gaussian (Canonne, Kamath and Steinke 2020)."""

import gc
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import opendp.prelude as dp

dp.enable_features("contrib")

_LEAST_SIGMA = (
    1e-6  # under this, noise is zero with certainty for all that matters, and the sampler's fractions are huge
)


class OpenDPNoise:
    """Draws from the operating system's entropy, through OpenDP and nothing else."""

    def add(self, values: Sequence[int], sigma: float) -> list[int]:
        """The values with discrete Gaussian noise of parameter ``sigma`` in each; one draw per value."""
        if not 0 <= sigma < math.inf:  # nan too: noise of nan would be none
            raise ValueError("sigma is 0 or more, and finite")
        if not values:
            return []
        noisy: list[int] = _gaussian(sigma if sigma >= _LEAST_SIGMA else 0.0)(list(values))
        # The array in which OpenDP takes the exact values refers to itself (`ctypes.cast` makes it so), and would stay
        # in memory until the collector of cycles happens to look. It is among the youngest objects.
        gc.collect(0)
        return noisy


@lru_cache(maxsize=256)
def _gaussian(sigma: float) -> Any:
    space = dp.vector_domain(dp.atom_domain(T=dp.i64)), dp.l2_distance(T=dp.f64)
    return dp.m.make_gaussian(*space, scale=sigma)


def opendp_epsilon(rho: float, delta: float) -> float:
    """The ε that OpenDP itself gives for ρ-zCDP and δ, by its own conversion of a discrete Gaussian with that ρ.

    ``pipeline.core.budget.epsilon`` is the same formula, worked out where nothing may be imported.
    """
    if rho > 5_000:
        return math.inf
    space = dp.atom_domain(T=dp.i64), dp.absolute_distance(T=dp.i64)
    gaussian = dp.m.make_gaussian(*space, scale=1 / math.sqrt(2 * rho))
    found: float = dp.c.make_zCDP_to_approxDP(gaussian).map(1).epsilon(delta)
    return found
