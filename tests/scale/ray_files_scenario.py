"""Two nodes of one core, two replicas (so one on each), and nothing of what they serve is left where it was sent from.

Run by test_ray_files.py; prints one JSON object.  In a process of its own: Ray starts and leaves more behind than a
test process should have.
"""

import json
import os
import sys
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
MEMORY = 150 << 20
ASKED = 40


def main(folder: str, port: int) -> dict[str, object]:
    from ray.cluster_utils import Cluster
    from tests.scale.ray_serve_scenario import ask

    from assay.job.serve.config import request_of
    from assay.scale.ray_serve import RayPlan, RayServe

    class Vanishing(RayServe):
        """The files are gone once they are in the object store, before any replica is started."""

        def _application(self, serve):
            made = super()._application(serve)
            Path(folder).rename(f"{folder}-elsewhere")
            return made

    head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    models = [
        {"source": f"{folder}/net.onnx", "preprocess": f"{folder}/pre.py:plain"},
        {"source": f"{folder}/bundle", "name": "small"},
    ]
    service = Vanishing(request_of({"model": models, "http_port": port}), RayPlan(cluster.address, 2, 2), told)
    found: dict[str, object] = {}
    with service.serving():
        from ray import serve

        (application,) = serve.status().applications.values()
        found["replicas"] = application.deployments["server"].replica_states
        url = f"http://127.0.0.1:{port}"
        picture = Path(f"{folder}-elsewhere", "picture.png").read_bytes()
        found["pictures"] = [ask(f"{url}/predict/net", picture) for _ in range(ASKED)]
        feed = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [1.0] * 16}
        found["bundle"] = ask(f"{url}/v2/models/small/infer", json.dumps({"inputs": [feed]}).encode())
        found["config"] = ask(f"{url}/v2/models/net/config")
        found["there"] = Path(folder).exists()
    cluster.shutdown()
    return found


def told(event, about):
    print(event, about, file=sys.stderr)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))), flush=True)
