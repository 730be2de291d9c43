"""``headcount plan``: what a budget will let analysts see, before anything is deployed.

::

    population     who does how much, and what is popular
    forecast       which cells will be shown, how exact, and what the bounds cut off
    proposal       bounds for next month, from released statistics alone
    picture        the forecast as a chart
    command        the command line
"""
