"""Faults on purpose: every job ends, no command runs twice and nothing acknowledged is lost, or this says so.

``world`` runs a gateway and breaks it, ``bridged`` does so where remote gateways have brokers of their own,
``workload`` uses it meanwhile, ``verdict`` compares in the end what was promised, what is stored and what
reached the fleet. ``python -m tests.torture --help`` is the long form,
``tests/system/test_kills.py`` the short one.

``leaders`` breaks the leader of three bundles with one database; ``askers`` use them at every door, and
``account`` compares. ``test_leaders.py`` is its short form. ``starts`` has the schedules of both, and
``told`` what webhooks are told.
"""
