"""Loads a test file or a helper of tests by its path: the folders of tests are no packages, so that two files may have the same name."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_TESTS = Path(__file__).parent


def load(path: Path) -> ModuleType:
    """Return the module at a path below `tests/`, which is executed once in a process."""
    name = "_".join(["hindcast", "tests", *path.resolve().relative_to(_TESTS).with_suffix("").parts])
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
