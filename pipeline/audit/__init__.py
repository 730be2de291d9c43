"""Attacks on the promise that anyone can run: ``headcount audit``. The map, in the order in which they are run.

::

    neighbours     A0   a subject's month taken away moves exact tallies by no more than was paid for
    mechanism      A1   the noise alone hides what it says, and is a discrete Gaussian
    canaries       A2   the whole stack, attacked in one run
    uniques        A3   values that one subject alone has stay unseen
    retries        A4   one release, one draw, whatever crashes
    differencing   A5   sums, totals and windows taken from one another
    opinion        A6   singling out, linkability, inference
    linking             and what links pseudonyms when their keys are gone
    views          A7   what an analyst sees beside the numbers
    randomness     A8   no randomness but OpenDP's
    planted        A9   the audit itself, against the faults of a table (faults)

    findings, estimates   what an attack reports, and the confidence bounds in it
    attacks, running      the closed list with its sizes, and the runner
"""
