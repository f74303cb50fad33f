"""The contract that every stage shares: schemas, configuration, errors, tables, engine, ownership, queries.

Belongs here: what two stages need to meet at a table, and the one door people query through.
Does not belong here: anything that talks to Hubble, Kubernetes or a browser. Imports nothing else of ours.
"""
