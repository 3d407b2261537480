"""A model on a running server, named by URL, opened as any other: assay's own client and server together."""

import numpy as np
import pytest

from assay.core.engine import OpenOptions
from assay.engines.remote import RemoteEngine
from assay.sources.options import SourceOptions
from assay.sources.remote import open_grpc, open_http


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:{grpc}/pictures", "http://127.0.0.1:{http}/v2/models/pictures",
                                 "http://127.0.0.1:{http}/v2/models/pictures/versions/1"])  # fmt: skip
def test_a_url_becomes_a_session(server, tmp_path, url):
    spec = url.format(grpc=server.grpc_port, http=server.port)
    opened = open_grpc if spec.startswith("grpc") else open_http
    model = opened(spec, SourceOptions(out_dir=tmp_path))
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with RemoteEngine().open(model.artifact, OpenOptions()) as session:
        scores = session.run({"image": x})["scores"]
        assert session.signature.input_names == ("image",)
    assert scores.shape == (2, 5)
    with RemoteEngine().open(model.artifact, OpenOptions()) as session:
        assert session.run({"image": x})["scores"].tobytes() == scores.tobytes()
