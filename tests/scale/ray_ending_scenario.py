"""How ``serve --ray`` ends: no replica can be made, a request is under way, the cluster is ended first.

Run by test_ray_replica.py; prints one JSON object.  In a process of its own: Ray starts and leaves more behind than a
test process should have.
"""

import io
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(
    prefix="ray-"
)  # whoever joins "the cluster that runs here" finds none of these
SLOW = (
    "import pathlib, time\nimport numpy as np\n\n\n"
    "def plain(content):\n    pathlib.Path({mark!r}).touch()\n    time.sleep(2.0)\n"
    "    return np.ones(16, np.float32)\n"
)


def main(folder: str, model: str, port: int) -> dict[str, object]:
    import ray
    from ray import serve

    place = Path(folder)
    (place / "slow.py").write_text(SLOW.format(mark=str(place / "begun")))
    (place / "wrong.py").write_text("import there_is_no_such_module\n")
    found: dict[str, object] = {}
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment(name="another")
    def another(request: object) -> str:
        return "still here"

    serve.run(another.bind(), name="another", route_prefix="/another")
    found["wrong"] = refused(model, f"{place}/wrong.py:plain", port)
    found["slow"], found["drained"] = under_way(model, place, port)
    found["replaced"] = replaced(model, port)
    found["left"] = sorted(serve.status().applications)
    serve.shutdown()
    ray.shutdown()
    found["drained without its cluster"] = ended_first(model, port)
    shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)
    return found


def service(model, preprocess, port, events, address=None):
    from assay.job.serve.config import request_of
    from assay.scale.ray_serve import RayPlan, RayServe

    asked = {"model": [{"source": model, "name": "net", "preprocess": preprocess}], "http_port": port}
    return RayServe(request_of(asked), RayPlan(address), lambda event, about: events.update({event: about}))


def refused(model, preprocess, port):
    from assay.core.errors import AssayError

    try:
        with service(model, preprocess, port, {}).serving():
            return None
    except AssayError as error:
        return [error.exit_code, error.message, error.remedy]


def under_way(model, place, port):
    from PIL import Image
    from tests.scale.ray_serve_scenario import ask

    answers, events, picture = [], {}, io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "png")

    def client():
        answers.append(ask(f"http://127.0.0.1:{port}/predict/net", picture.getvalue()))

    with service(model, f"{place}/slow.py:plain", port, events).serving():
        thread = threading.Thread(target=client)
        thread.start()
        while not (place / "begun").exists() and thread.is_alive():
            time.sleep(0.02)
    thread.join()
    return answers[0], events["stopped"]["drained"]


def replaced(model, port):
    """A second service while the first one runs: what each of them is told, and whether the second one answers."""
    from tests.scale.ray_serve_scenario import ask

    one, two = {}, {}
    with service(model, None, port, one).serving(), service(model, None, port, two).serving():
        answer = ask(f"http://127.0.0.1:{port}/v2/models/net")
    return one.get("warning"), two.get("warning"), answer[0]


def ended_first(model, port):
    import psutil

    events = {}
    with service(model, None, port, events, "local").serving():
        (head,) = [p for p in psutil.Process().children(recursive=True) if p.name() == "gcs_server"]
        head.kill()
        head.wait()
    return events["stopped"]["drained"]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
