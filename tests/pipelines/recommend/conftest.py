"""Puts the builders of observed edges where tests of this folder can import them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
