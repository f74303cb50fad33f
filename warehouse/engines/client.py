"""Imports what is used of pyspark's client for Spark Connect servers. It is the only module that does.

The client guards against two things when it is imported, neither of which is wanted here: it warns about pandas 3, of which nothing is
used, and it takes a program whose main module has no file (`python -c`, a worker of pytest-xdist) for a run of its own doctests, which
it ends with SystemExit unless a whole Apache Spark is installed.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def _as_of_a_program() -> Iterator[None]:
    """Let the main module have a file meanwhile."""
    main = sys.modules["__main__"]
    if hasattr(main, "__file__"):
        yield
        return
    main.__file__ = "<string>"
    try:
        yield
    finally:
        del main.__file__


with warnings.catch_warnings(), _as_of_a_program():
    warnings.simplefilter("ignore", FutureWarning)
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema

__all__ = ["DataFrame", "DefaultPolicy", "PySparkException", "SparkSession", "from_arrow_schema"]
