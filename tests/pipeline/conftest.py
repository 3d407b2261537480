"""Lets the tests import ``small.py``, which also runs on its own to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
