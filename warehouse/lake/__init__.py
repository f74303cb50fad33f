"""The lake's tables: Delta tables and their files, dictionary encoding, time travel and schema evolution.

Access control does not belong here: what a principal may see is decided in warehouse.access."""
