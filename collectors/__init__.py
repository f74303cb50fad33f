"""From Hubble to the lake: streams, decoding, batches, the coverage ledger, import of exporter files, the simulated fleet.

Belongs here: everything that uses Hubble's API or writes `flows` and `coverage` as they arrive.
Does not belong here: code that works on stored tables (pipelines) or answers questions (warehouse.questions.door).
"""
