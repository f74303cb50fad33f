"""From Hubble to the lake: streams, decoding, batches, the coverage ledger, import of exporter files, the simulated fleet.

Belongs here: whatever speaks Hubble's API or writes `flows` and `coverage` as they arrive.
Does not belong here: what works on stored tables (pipelines) or answers people (warehouse.questions.door).
"""
