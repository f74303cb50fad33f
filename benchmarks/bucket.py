"""An S3 server for benchmarks (versitygw), which can be made to die and come back at random moments."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import stand
from tests.peers import object_store
from warehouse import config

UP_SECONDS, AWAY_SECONDS = (3.0, 12.0), (0.2, 5.0)


class Bucket:
    """A running server with an empty bucket."""

    def __init__(self, server: Any, options: dict[str, str], cache: Path) -> None:
        self._server, self._options, self._cache = server, options, cache
        self.outages = 0

    def settings(self) -> config.Lake:
        """Return the settings of a lake in the bucket, for a client that does not wait long."""
        return config.Lake(url="s3://bucket/lake", options=self._options, cache=self._cache)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Context in which the server is killed and started again at random moments; it runs afterwards."""
        stop, chance = threading.Event(), random.Random(time.time_ns())

        def trouble() -> None:
            while not stop.wait(chance.uniform(*UP_SECONDS)):
                self._server.kill()
                self.outages += 1
                time.sleep(chance.uniform(*AWAY_SECONDS))
                self._server.start()

        thread = threading.Thread(target=trouble)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    """Run a server whose objects are below a folder; ends the benchmark if it is not built."""
    stand.peers("versitygw")
    (folder / "objects" / "bucket").mkdir(parents=True)
    with object_store.s3_server(folder / "objects", folder, folder / "requests.log") as server:
        options = {"AWS_ENDPOINT_URL": f"http://{server.address}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        options |= {"AWS_ACCESS_KEY_ID": object_store.KEY, "AWS_SECRET_ACCESS_KEY": object_store.SECRET, "retry_timeout": "3s"}
        yield Bucket(server, options, folder / "copies")
