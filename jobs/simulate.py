"""Writes the usage events of an invented application."""

from pipeline.simulation.command import simulate

if __name__ == "__main__":
    simulate()
