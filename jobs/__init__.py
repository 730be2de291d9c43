"""One verb a file, for schedulers: ``python -m jobs.replay`` is ``headcount replay``."""
