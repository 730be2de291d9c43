"""Benchmarks: ratios to a ceiling that is measured in the same run, never a timed assertion."""
