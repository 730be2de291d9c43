"""``headcount demo``: invented users through the real pipeline, and what an analyst sees of them.

command     the options, and what is shown when
running     emitter, broker, workers and projector, for as many simulated days as asked for
watching    progress: bars and a growing line in a terminal, plain lines elsewhere
summary     the figures and two plots in the terminal
picture     the same and more as ``usage.svg``
"""

from pipeline.demo.command import demo

__all__ = ["demo"]
