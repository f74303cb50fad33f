"""The configuration and the lake, as all sessions of the server share them: neither holds anyone's rows."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door


@st.cache_resource(hash_funcs={config.Lake: lambda lake: lake.model_dump_json()}, show_spinner="Opening the lake")
def lake(settings: config.Lake) -> Lake:
    """The lake's handle. Raises LakeError."""
    return Lake.open(settings)


def configuration() -> config.Config:
    """The configuration of now, so that a grant that is taken away is gone at the next question. Raises ConfigError."""
    source = config.source_path()
    changed_ns = source.stat().st_mtime_ns if source.exists() else 0
    return _read(str(source.absolute()), changed_ns)


@st.cache_resource(show_spinner=False, max_entries=4)
def _read(path: str, changed_ns: int) -> config.Config:
    """The configuration as the file was at a change. (Streamlit leaves arguments with an underscore before them out of the key.)"""
    return config.load_config(Path(path))


def door(settings: config.Config, page: str) -> Door:
    """The door for the questions of a page. Raises LakeError."""
    return Door(lake(settings.lake), settings.ownership, settings.rollups, purpose=f"dashboard: {page}", engine_settings=settings.engine)
