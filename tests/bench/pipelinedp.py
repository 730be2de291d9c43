"""PipelineDP's figures on the data of ``make bench-accuracy``. Run by its own Python; prints one JSON object.

Of what it offers, this keeps most: Gaussian noise that is drawn once for count and selection. Everything is done
in memory by its local backend, in pure Python.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pipeline_dp as pdp

from tests.bench.population import KEYS, MOST, chunks, count, errors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--delta", type=float, required=True)
    given = parser.parse_args()
    truth = np.zeros(KEYS, dtype=np.int64)

    def rows() -> Iterator[tuple[int, int]]:
        for subjects, keys in chunks(given.users, given.seed):
            truth[:] += count(subjects, keys)[0]
            yield from zip(subjects.tolist(), keys.tolist(), strict=True)

    began = time.process_time()
    accountant = pdp.NaiveBudgetAccountant(total_epsilon=given.epsilon, total_delta=given.delta)
    engine = pdp.DPEngine(accountant, pdp.LocalBackend())
    parameters = pdp.AggregateParams(
        metrics=[pdp.Metrics.PRIVACY_ID_COUNT],
        noise_kind=pdp.NoiseKind.GAUSSIAN,
        max_partitions_contributed=MOST,
        max_contributions_per_partition=1,
        partition_selection_strategy=pdp.PartitionSelectionStrategy.GAUSSIAN_THRESHOLDING,
        post_aggregation_thresholding=True,
    )
    extractors: Any = pdp.DataExtractors(
        privacy_id_extractor=lambda row: row[0], partition_extractor=lambda row: row[1], value_extractor=lambda _: 0
    )
    released = engine.aggregate(rows(), parameters, extractors)
    accountant.compute_budgets()
    estimate, shown = np.zeros(KEYS), 0
    for key, metrics in released:
        estimate[key] = metrics.privacy_id_count
        shown += 1
    found = {
        "keys": shown,
        **errors(estimate, truth),
        "cpu": time.process_time() - began,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
