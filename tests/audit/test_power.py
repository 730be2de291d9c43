"""Each attack would have seen something: against code or policies that leak, at the least size, it finds it.

The faults of the table are tried by A9; here are those for which there is none: A2, A6 and A8.
"""

import msgspec
import numpy as np
import pytest

from pipeline.audit import canaries, linking, opinion, randomness
from pipeline.audit.findings import no_report
from pipeline.audit.neighbours import Counted, compare, small, try_world
from pipeline.audit.opinion import attack, people, risk_of
from pipeline.audit.views import SINCE, UNTIL, folded, masked, neighbours
from pipeline.audit.worlds import line, records, word
from pipeline.testing import EXACT, NoNoise, declarations, run

CELLS = """
version = "fine"
[statistics.feature_use]
description = "Users by everything, exactly."
dimensions = ["feature", "platform"]
measures = ["users"]
max_cells = 1
[statistics.active_users_by_app_version]
description = "Users by version."
dimensions = ["app_version"]
measures = ["users"]
max_cells = 1
[statistics.duration_by_feature]
description = "Users by duration."
dimensions = ["feature", "duration_ms"]
measures = ["users"]
max_cells = 1
"""


def test_exact_counts_single_people_out() -> None:
    """Under a policy that protects nobody a cell of one user is a predicate that one person alone fulfils."""
    random = np.random.default_rng(1)
    inside, outside = people(400, random), people(400, random)
    lines = [
        line(
            f"u-{i}",
            "2026-05-05T12:00:00Z",
            i,
            feature=p.feature,
            platform=p.platform,
            app_version=p.version,
            duration_ms=p.duration,
        )
        for i, p in enumerate(inside)
    ]
    declared = declarations(statistics=CELLS, policy=EXACT)
    known = opinion.Known(run(declared, records(lines), since=opinion.SINCE, until=opinion.UNTIL).releases, declared)
    alone = {known.predicate(cell) for cell in known.single()}
    there, elsewhere = known.fulfilled(inside), known.fulfilled(outside)
    right, control = (sum(group[guess] == 1 for guess in alone) for group in (there, elsewhere))
    assert right == len(alone) > 20
    risk, width = risk_of(right, control, len(alone))
    assert risk - width > opinion.LIMIT


def test_a_protected_day_singles_nobody_out() -> None:
    found = list(attack(declarations(), NoNoise(), 3_000, 1, no_report))
    assert [finding.attack for finding in found] == [
        "A6 WP216: singling out",
        "A6 WP216: linkability",
        "A6 WP216: inference",
    ]
    # At a tenth of its size the intervals are wide; the risk itself is none, and the attack beats a naive guesser.
    assert all(finding.lower < opinion.LIMIT for finding in found)


def test_pseudonyms_made_with_the_key_that_is_left_are_recognised() -> None:
    names = ["u-1", "u-2"]
    [unkeyed, routed, *_] = [linking.hashes(names, key) for key in linking.left(b"r" * 32)]
    assert len({*unkeyed, *routed}) == 4
    assert routed == linking.hashes(names, b"r" * 32)


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("import random", "imports random"),
        ("from numpy import random", "imports numpy.random"),
        ("import numpy as np\nnp.random.default_rng()", "names .default_rng"),
        ("def f():\n    from secrets import token_bytes", "imports secrets"),
        ("import os\nos.urandom(8)", "names .urandom"),
        ("connection.execute('SELECT RANDOM() FROM cells')", "has random( in a text"),
        ("eval('1')", "names eval"),
        ("import opendp.prelude as dp", "imports opendp.prelude"),
    ],
)
def test_other_randomness_is_found_in_a_source(source: str, offence: str) -> None:
    assert f"m {offence}" in list(randomness.offences("m", source))


def test_what_leads_to_a_release_is_walked_to_its_end() -> None:
    modules = randomness.closure(randomness.STARTS)
    assert {"pipeline.noise", "pipeline.core.budget", "pipeline.core.tallies", "pipeline.warehouse.views"} <= set(
        modules
    )
    assert not {name for name in modules if name.startswith(("pipeline.simulation", "pipeline.audit"))}


def test_every_canary_has_a_name_of_its_own_and_lost_events_are_counted() -> None:
    assert len({word(number) for number in range(20_000)}) == 20_000
    assert not any(character.isdigit() for number in range(20_000) for character in word(number))
    assert canaries.lost(5, {"late": 3}) == 5  # two with no outcome, three with the wrong one
    assert canaries.lost(0, {}) == 0


def test_subjects_reach_their_bounds_so_that_one_more_would_be_over() -> None:
    world = try_world(1, 0)
    assert world.pairs > 5
    assert (world.over, world.flow, world.replays) == (0, 0, 0)
    assert world.cells == world.most == 1.0


def test_a_changed_count_of_draws_is_a_change_of_control_flow() -> None:
    noise = NoNoise()
    releases = list(run(small(0), [], noise=noise, since=SINCE, until=UNTIL).releases)
    one = Counted(releases, noise.draws)
    other = Counted(releases, [(n + 1, sigma) for n, sigma in noise.draws])
    assert compare(small(0), one, one, alone=False).flow == 0
    assert compare(small(0), one, other, alone=False).flow == 1
    assert compare(small(0), one, Counted(releases[1:], noise.draws), alone=False).flow == 1


def test_a_file_with_another_comment_is_seen_to_differ() -> None:
    _, without = neighbours(0)
    result = run(declarations(), records(without), since=SINCE, until=UNTIL)
    releases = [masked(release) for release in result.releases]
    changed = [msgspec.structs.replace(release, description="another") for release in releases]
    assert folded(releases) == folded(releases)
    assert folded(releases) != folded(changed)
    assert folded(releases) != folded(releases[1:])


def test_the_pairs_whose_files_are_compared_differ_in_a_subject() -> None:
    for pair in range(24):
        there, not_there = neighbours(pair)
        assert set(not_there) < set(there)
        assert all(b'"subject":"target"' in line for line in set(there) - set(not_there))
