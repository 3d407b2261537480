"""The same predictions on a cluster of two nodes as here, also when an actor dies in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from assay.core.errors import BadInput, NotAvailable
from assay.job.evaluate.one import Evaluated, Evaluation, evaluate_one
from assay.job.predict_one import Prediction, predict_one
from assay.job.progress import Silent
from assay.sources import SourceOptions

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
SIZE, CLASSES, COUNT = 12, 3, 90


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, as processes of this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    memory = 150 << 20
    head = {"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1, object_store_memory=memory)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolution, pictures of three classes (one file is broken), and a transform that dies once."""
    root = tmp_path_factory.mktemp("ray")
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((CLASSES, 3 * SIZE * SIZE)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)]
    value = helper.make_tensor_value_info
    ends = (value("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE]), value("y", TensorProto.FLOAT, ["n", CLASSES]))
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], [onnx.numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), root / "net.onnx")
    for index in range(COUNT):
        folder = root / "pictures" / f"class{index % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / f"{index:03d}.png")
    (root / "pictures" / "class1" / "001.png").write_bytes(b"")
    (root / "mine.py").write_text(
        "import io, os, pathlib, signal\nimport numpy as np\nfrom PIL import Image\n"
        "HERE = pathlib.Path(__file__).parent\n"
        "def plain(content):\n"
        "    pixels = np.asarray(Image.open(io.BytesIO(content)), np.float32) / 255\n"
        "    return pixels.transpose(2, 0, 1).copy()\n"
        "def dies_once(content):\n"
        "    made = plain(content)\n"
        "    mark = HERE / 'died'\n"
        "    if made[0, 0, 0] > 0.95 and not mark.exists():\n"
        "        mark.write_text(str(os.getpid()))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return made\n"
    )
    return root


def evaluated(place: Path, out: Path, transform: str, runner: Any = None) -> tuple[Evaluated, list[Any]]:
    from assay.measure.predictions import read_predictions

    asked = Evaluation(
        str(place / "net.onnx"), str(place / "pictures"), engine="onnxruntime", batch=8, out=out, max_failures=1,
        preprocess=f"{place}/mine.py:{transform}",
    )  # fmt: skip
    found = evaluate_one(asked, SourceOptions(out_dir=out), Silent(), runner)
    return found, read_predictions(out / "predictions.jsonl.gz")


def in_small_shards(cluster: Any) -> Any:
    """A runner on the cluster whose shards hold 24 samples."""
    from assay.scale.ray_data import evaluate_on

    return lambda work, *rest: evaluate_on(cluster)(replace(work, shard_size=24), *rest)


def test_an_actor_that_dies_changes_no_prediction(cluster: Any, place: Path, tmp_path: Path) -> None:
    from assay.scale.ray_data_pool import Cluster

    here, expected = evaluated(place, tmp_path / "here", "plain")
    assert not (place / "died").exists()
    there, found = evaluated(place, tmp_path / "there", "dies_once", in_small_shards(Cluster(least=2)))
    assert (place / "died").exists()
    assert found == expected
    assert len(found) == COUNT - 1
    assert there.record.figures == here.record.figures
    assert there.record.details["counts"] == {"read": COUNT, "scored": COUNT - 1, "failed": 1}
    assert [f["id"] for f in there.record.details["failures"]] == ["class1/001.png"]
    assert len(list((tmp_path / "there" / "shards").glob("shard-*"))) == -(-COUNT // 24)
    # Nothing is left to do: not a row goes to the cluster again.
    again, _ = evaluated(place, tmp_path / "there", "dies_once", in_small_shards(Cluster(least=2)))
    assert again.rates is None
    assert again.record.figures == here.record.figures


def test_predictions_of_pictures_in_their_order(cluster: Any, place: Path, tmp_path: Path) -> None:
    from assay.scale.ray_data import predict_on
    from assay.scale.ray_data_pool import Cluster

    inputs = tuple(sorted((place / "pictures" / "class0").iterdir()))[:5]
    asked = Prediction(str(place / "net.onnx"), inputs, engine="onnxruntime", preprocess=f"{place}/mine.py:plain")
    here = predict_one(asked, SourceOptions(out_dir=tmp_path), Silent())
    assert predict_one(asked, SourceOptions(out_dir=tmp_path), Silent(), predict_on(Cluster(most=1))) == here
    assert [p.input for p in here] == list(inputs)


def test_a_shipped_model_leaves_no_files_behind_once_it_is_open(cluster: Any, place: Path, tmp_path: Path) -> None:
    from assay.core.artifact import file_artifact
    from assay.core.engine import Candidate, OpenOptions
    from assay.job.opening import open_candidate
    from assay.scale.ray_data_pool import Cluster, Shipped

    apart = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(onnx.load(place / "net.onnx"), tmp_path / "net.onnx", **apart)
    artifact = replace(file_artifact(tmp_path / "net.onnx", "onnx"), companions=(tmp_path / "net.data",))
    sent = Shipped(Candidate(artifact, "onnxruntime", "1", OpenOptions(), "a processor"), Cluster())
    x = np.ones((1, 3, SIZE, SIZE), np.float32)
    with open_candidate(sent.candidate) as session:
        expected = session.run({"x": x})["y"]
    with sent.unpacked() as candidate:
        session = open_candidate(candidate)
    with session:
        assert not candidate.artifact.path.parent.exists()
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected)


def test_what_cannot_be(cluster: Any, place: Path, tmp_path: Path) -> None:
    from assay.scale.ray_data import evaluate_on
    from assay.scale.ray_data_pool import Cluster

    with pytest.raises(BadInput, match="one core"):
        Cluster(cpus_per_actor=0)
    with pytest.raises(NotAvailable, match=r"2 cores, 1 actors of 16 .*"):
        evaluated(place, tmp_path / "a", "plain", evaluate_on(Cluster(cpus_per_actor=16)))


def test_the_local_path_does_not_import_ray(place: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from assay.cli.main import run_cli; "
        f"code = run_cli(['evaluate', {str(place / 'net.onnx')!r}, '--data', {str(place / 'pictures')!r}, "
        f"'--preprocess', {f'{place}/mine.py:plain'!r}, '--max-failures', '1', '--quiet']); "
        "assert code == 0, code; assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
