"""A cluster of two nodes of one core, two replicas of one core (so one on each), one node lost under load.

Run by test_ray_serve.py; prints one JSON object.

In a process of its own: Ray starts and leaves more behind than a test process should have.
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
MEMORY = 150 << 20
RECOVERY_S = 3.0


def main(bundle: str, port: int, seconds: float) -> dict[str, object]:
    from ray.cluster_utils import Cluster

    from assay.job.serve.config import request_of
    from assay.scale.ray_serve import RayPlan, RayServe

    head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    lost = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    events: list[str] = []
    request = request_of({"model": [{"source": bundle}], "http_port": port})
    service = RayServe(request, RayPlan(cluster.address, 2, 2), lambda event, about: events.append(event))
    found: dict[str, object] = {"events": events}
    with service.serving():
        url = f"http://127.0.0.1:{port}"
        found["good"] = ask(f"{url}/v2/models/small/infer", body(16))
        found["bad"] = ask(f"{url}/v2/models/small/infer", body(15))
        found["metadata"] = ask(f"{url}/v2/models/small")
        answers = _Load(f"{url}/v2/models/small/infer")
        answers.press(seconds)
        found["before"] = answers.counts(0)
        fell = time.monotonic()
        cluster.remove_node(lost)
        answers.press(RECOVERY_S + seconds)
        found["after"] = answers.counts(fell + RECOVERY_S)
        found["meanwhile"] = answers.counts(fell)
    cluster.shutdown()
    return found


def body(count: int) -> bytes:
    given = {"name": "x", "shape": [1, count], "datatype": "FP32", "data": [1.0] * count}
    return json.dumps({"inputs": [given]}).encode()


def ask(url: str, content: bytes | None = None) -> list[object]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content), timeout=20) as answer:
            return [answer.status, json.load(answer)]
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            return [error.code, json.loads(text)]
        except ValueError:  # Ray's proxy itself
            return [error.code, {"error": text}]


class _Load:
    """Four clients; every answer with its time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._answers: list[tuple[float, bool]] = []

    def press(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(until,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, until: float) -> None:
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                good = ask(self._url, body(16))[0] == 200
            except OSError:
                good = False
            self._answers.append((begun, good))

    def counts(self, since: float) -> list[int]:
        """[answered, failed] of the requests begun since then."""
        kept = [good for begun, good in self._answers if begun >= since]
        return [sum(kept), len(kept) - sum(kept)]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))), flush=True)
