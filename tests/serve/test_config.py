"""serve.toml and the command line as one table."""

import pytest
from click.testing import CliRunner

from assay.cli.serve import command, table_of
from assay.core.errors import BadInput, UnknownName
from assay.job.serve.config import read_config, request_of
from assay.job.serve.loading import served_name
from assay.job.serve.options import Serving


def test_a_whole_file(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a").mkdir()
    file = tmp_path / "serve.toml"
    file.write_text(
        """
        host = "0.0.0.0"
        http_port = 9000
        grpc_port = false
        watch = "models"
        policy = "eager"
        slo = "15ms"
        drain = "5s"
        [limits]
        body = "1MiB"
        head_s = "2s"
        connections = 7
        [[model]]
        source = "models/a"
        name = "a"
        max_batch = 32
        [[model]]
        source = "timm:resnet18"
        engine = "openvino"
        precision = "bf16"
        delay = "2ms"
        policy = "delay"
        preferred = [4, 8]
        """
    )
    request = request_of(read_config(file))
    settings = request.settings
    assert (settings.host, settings.http_port, settings.grpc_port, settings.metrics_port) == (
        "0.0.0.0",
        9000,
        None,
        8002,
    )
    assert (settings.limits.body, settings.limits.head_s, settings.limits.connections) == (2**20, 2.0, 7)
    assert settings.drain_s == 5.0
    assert request.watch == tmp_path / "models"
    first, second = request.models
    assert first.source == str(tmp_path / "models" / "a")
    assert (first.batching.policy, first.batching.max_batch, first.batching.slo_s) == ("eager", 32, 0.015)
    assert (second.engine, second.precision, second.batching.preferred) == ("openvino", "bf16", (4, 8))
    assert (second.batching.policy, second.batching.max_delay_s) == ("delay", 0.002)
    assert request.defaults.batching.policy == "eager"


WRONG = {
    "an unknown key": ({"hosts": "a"}, UnknownName, "hosts"),
    "an unknown limit": ({"limits": {"boddy": 1}}, UnknownName, "boddy"),
    "an unknown key of a model": ({"model": [{"source": "a", "host": "b"}]}, UnknownName, "host"),
    "no source": ({"model": [{"name": "a"}]}, BadInput, "source"),
    "nothing to serve": ({}, BadInput, "nothing to serve"),
    "a port of text": ({"http_port": "8000"}, BadInput, "http_port"),
    "a port that is true": ({"http_port": True}, BadInput, "http_port"),
    "a port beyond": ({"http_port": 70000}, BadInput, "http_port"),
    "a time of text": ({"slo": "soon"}, BadInput, "slo"),
    "a batch of none": ({"max_batch": 0}, BadInput, "max_batch"),
    "a negative limit": ({"limits": {"head_s": -1}}, BadInput, "head_s"),
    "nothing listens": ({"http_port": False, "grpc_port": False}, BadInput, "neither"),
    "one name for two": ({"name": "a", "model": [{"source": "a"}, {"source": "b"}]}, BadInput, "--name"),
    "a key without certificate is seen when it listens": ({"allow_host": "a"}, BadInput, "allow_host"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_named(name):
    table, kind, words = WRONG[name]
    if name not in ("nothing to serve", "no source") and "model" not in table:
        table = {**table, "model": [{"source": "a.onnx"}]}
    with pytest.raises(kind, match=words):
        request_of(table)


def test_files_that_are_none(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "a.toml").write_text("host = ")
    with pytest.raises(BadInput, match="not TOML"):
        read_config(tmp_path / "a.toml")


def parsed(*arguments):
    """The table of a command line."""
    context = command.make_context("serve", list(arguments))
    values = dict(context.params)
    for name in ("json_to", "quiet", "debug", "log"):
        values.pop(name)
    return table_of(values)


def test_options_lie_over_the_file(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('http_port = 9000\nmax_batch = 4\n[[model]]\nsource = "a.onnx"\n')
    table = parsed("--config", str(file), "--max-batch", "16", "b=b.onnx", "--no-grpc", "--preferred", "4,8", "--admin")
    assert table["http_port"] == 9000
    assert table["max_batch"] == 16
    assert table["grpc_port"] is False
    assert table["preferred"] == (4, 8)
    assert table["admin"] is True
    assert [m["source"] for m in table["model"]] == ["a.onnx", "b.onnx"]
    assert table["model"][1]["name"] == "b"


def test_a_source_with_an_equals_sign_is_no_name(tmp_path):
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert parsed(str(odd))["model"] == [{"source": str(odd)}]
    assert parsed("timm:resnet18?pretrained=false")["model"] == [{"source": "timm:resnet18?pretrained=false"}]
    with pytest.raises(BadInput, match="NAME=MODEL"):
        parsed("=a.onnx")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm:resnet18?x=1", "resnet18"),
        ("a/net.py:build", "build"),
        ("a/b c.onnx", "b_c"),
        ("torchvision:vit_b_16", "vit_b_16"),
    ],
)
def test_names(source, name):
    assert served_name(Serving(source)) == name


def test_what_is_said_for_all_models_is_not_meant_for_bundles_beside_them(classifier):
    """A bundle is opened as it was proved, and refuses anything else."""
    table = {"engine": "openvino", "precision": "bf16"}
    mixed = request_of({**table, "model": [{"source": str(classifier)}, {"source": "timm:resnet18"}]})
    assert [(m.engine, m.precision) for m in mixed.models] == [(None, None), ("openvino", "bf16")]
    alone = request_of({**table, "model": [{"source": str(classifier)}]})
    assert [(m.engine, m.precision) for m in alone.models] == [("openvino", "bf16")]
    said = request_of({"model": [{"source": str(classifier), "precision": "bf16"}, {"source": "timm:resnet18"}]})
    assert [m.precision for m in said.models] == ["bf16", None]


def test_a_name_must_fit_a_url():
    with pytest.raises(BadInput, match="letters"):
        served_name(Serving("a.onnx", name="a/b"))


def test_a_bundle_is_named_after_what_is_in_it(classifier):
    assert served_name(Serving(str(classifier))) == "classifier"


def test_help_shows_an_example():
    found = CliRunner().invoke(command, ["--help"])
    assert found.exit_code == 0
    assert "curl --data-binary" in found.output
