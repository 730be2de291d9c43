"""Headcount: usage statistics that cannot point at anyone. The map, in the order in which data meets the modules.

::

    emitter                 what an application imports
    core.events             the event, and the forms that it may have in a record (decoding reads them; layouts reads
                            as columns what looks like what was read before)
    core.ingest             STEPS: from records to contributions (fields, windows, pseudonyms are what the steps use)
    core.contributions      what leaves the first hop: columns of pseudonyms and sealed cells
    core.tallies            a fold over contributions (counting closes a window, bounding holds each subject to its
                            bounds, numbers is the table in which keys are found)
    core.releasing          from tallies to releases, with noise (budget says how much)
    core.release            what is public for ever
    warehouse               from releases to DuckDB, and to people
    stream                  Kafka and Faust around the core: topics, batches, keys, the three hops
    policy, plan            what the policy costs, and what it will show
    stack, replay           the whole pipeline on one machine, over files
    audit                   attacks on all of it
"""
