"""Engines other than the embedded one: the same SQL, over the same files of the lake, run by a server through Spark Connect.

`dialect` holds everything that differs between engines, `spark` speaks to a server, `opening` finds out whether the configured one
can be used. An engine reads files and writes files; only warehouse.lake commits. This room alone imports pyspark and sqlglot."""
