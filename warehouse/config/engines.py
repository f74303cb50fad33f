"""The distributed engine that does the heavy work, if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from warehouse.config.values import Section, read_secret


class Engine(Section):
    """A Spark Connect server that compacts, rolls up, removes and replays in place of the embedded engine."""

    spark: str | None = None
    """Its address: sc://host:15002, with `;use_ssl=true` where it has TLS. The embedded engine does everything by default."""
    token_file: Path | None = None
    token_env: str | None = None
    """File, or environment variable, with the bearer token that the server asks for; sent over TLS only."""
    lake: str | None = None
    """The lake's address as the server reaches it, if that is another than `lake.url`, e.g. s3a://flows/lake for Apache Spark."""

    questions_over_bytes: int | None = Field(default=None, ge=0)
    """Questions over files that are larger than this together are answered by the server; none is by default."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.spark is None:
            if self.model_fields_set - {"spark"}:
                raise ValueError("spark is missing: give the server's address, e.g. sc://spark.example:15002")
            return self
        url = urlsplit(self.spark)
        if url.scheme != "sc" or not url.hostname or url.username or url.password:
            raise ValueError(
                f"spark: an address is sc://host:15002, not {self.spark.split('@')[-1]!r}; a token goes into token_file or token_env"
            )
        if "token=" in self.spark:
            raise ValueError("spark: the address contains a token: name the file or variable that has it in token_file or token_env")
        if self.token_file and self.token_env:
            raise ValueError("give token_file or token_env, not both")
        return self

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The host and the port of the address; 15002 by default."""
        url = urlsplit((self.spark or "").partition(";")[0])
        return url.hostname or "", url.port or 15002

    def remote(self) -> str:
        """Return the address with its token, for the client alone. Raises ConfigError if the token cannot be read."""
        assert self.spark is not None  # noqa: S101
        address, semicolon, options = self.spark.partition(";")
        url = f"{address.rstrip('/')}/{semicolon}{options}"
        if self.token_file or self.token_env:
            return f"{url}{'' if semicolon else ';'}{';' if options else ''}token={read_secret(self.token_file, self.token_env)}"
        return url
