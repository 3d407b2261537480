"""``scripts/harden-faults``: kill -9 at random moments, and what did not hold afterwards."""

import sys
import tempfile
import time
from pathlib import Path

from tests.hardening.faults import kill_at_random, small_model


def main(rounds: int) -> int:
    seed = int(time.time())
    print(f"{rounds} runs killed at random moments, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="assay-kill-") as folder:
        wrong = kill_at_random(small_model(Path(folder) / "small.onnx"), Path(folder), rounds, seed)
    for text in wrong:
        print(text)
    print(f"{len(wrong)} things did not hold" if wrong else "nothing was lost, and every next run ended well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
