"""Memory does not grow with the number of samples: results lie on disk, and a shard at a time is held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MOST_GROWTH = 0.05
CODE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from small import Small
from assay.pipeline import Flow, ShardStore, run

largest = 0
def look(done):
    global largest
    largest = max(largest, int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())

count = int(sys.argv[2])
store = ShardStore(Path(sys.argv[1]), {{}}, "jsonl")
outcome = run(Small(count).stages(), Flow(count, 16, 2, 2, 2, shard_size=256), store, look)
assert outcome.scored == count == sum(1 for _ in store.rows())
look(0)
print(largest)
"""


def largest_size(folder: Path, count: int) -> int:
    code = CODE.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_it_is_flat_within_five_percent(tmp_path: Path) -> None:
    small, large = (largest_size(tmp_path / str(count), count) for count in (1000, 12_000))
    assert large <= (1 + MOST_GROWTH) * small
