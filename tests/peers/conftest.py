"""Real peers for the tests in this folder; a test skips where its peer is not built."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def running() -> ModuleType:
    """The module that starts and stops peers, loaded by its path; skips when `make peers` built nothing."""
    spec = importlib.util.spec_from_file_location("hindcast_peers_running", Path(__file__).with_name("running.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        for name in ("hubble", "hubble-relay", "hubble-node"):
            module.program(name)
    except module.PeerMissing as missing:
        pytest.skip(str(missing))
    return module
