"""The tighter figure: privacy-loss distributions of the discrete Gaussians that are drawn, composed by dp-accounting.

zCDP is an upper bound that adds up by hand; this is nearly exact (Koskela, Jälkö and Honkela 2020; Doroshenko et al.
2022). For reports: no release and no refusal depends on it.
"""

from collections import Counter
from typing import Any

from pipeline.core.budget import Accountant

INTERVAL = 1e-3  # of privacy loss; losses are rounded so that the result is never too small
_TAIL = 1e-15


def pld_epsilon(accountant: Accountant, delta: float, months: int = 1) -> float | None:
    """ε at this δ of so many months; ``None`` without dp-accounting, or where no month is bounded.

    One subject moves every cell that it may by as much as it may, in every window: nothing costs more.
    """
    try:
        from dp_accounting.pld import privacy_loss_distribution as pld
    except ImportError:
        return None
    if not accountant.protects:
        return None
    drawn: Counter[tuple[float, int]] = Counter()  # sigma, by how much one subject moves the value → how many values
    for charge in accountant.charges():
        price, windows = charge.price, months * charge.windows
        drawn[price.sigma, price.bound] += windows * charge.moved
        if price.total_sigma is not None and price.total_bound is not None:
            drawn[price.total_sigma, price.total_bound] += windows
    composed: Any = pld.identity(value_discretization_interval=INTERVAL)
    for (sigma, moved), times in drawn.items():
        one = pld.from_discrete_gaussian_mechanism(
            sigma, moved, value_discretization_interval=INTERVAL, use_connect_dots=True
        )
        composed = composed.compose(one.self_compose(times, tail_mass_truncation=_TAIL), tail_mass_truncation=_TAIL)
    found: float = composed.get_epsilon_for_delta(delta)
    return found
