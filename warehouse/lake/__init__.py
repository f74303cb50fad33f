"""The lake's tables: Delta tables and their files, dictionaries, time travel and the evolution of schemas.

Nothing here knows who asks: what a person may see is warehouse.access's."""
