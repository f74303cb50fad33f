"""The contract that every stage shares: schemas, configuration, errors, tables, engine, ownership, queries.

Belongs here: what two stages need in order to meet at a table, and the door through which users query.
Does not belong here: anything that talks to Hubble, Kubernetes or a browser. It imports none of our other packages.
"""
