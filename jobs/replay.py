"""Runs the whole main job over files of events, on an embedded broker."""

from pipeline.cli import replay

if __name__ == "__main__":
    replay()
