"""Puts the policies and workloads that audits are tried on where tests of this folder can import them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
