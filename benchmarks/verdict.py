"""How a benchmark ends: with 0 where every target was reached, with ``MISSED`` where one was not.

Any other exit code says that the benchmark itself failed: Python ends with 1 after an exception.
"""

from __future__ import annotations

from typing import Final

MISSED: Final = 3
