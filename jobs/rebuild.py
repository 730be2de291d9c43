"""Makes the DuckDB file anew from the log of releases; nothing is drawn again."""

from pipeline.cli import rebuild

if __name__ == "__main__":
    rebuild()
