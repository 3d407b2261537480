"""How the texts of options become types."""

import pytest

from assay.cli.main import run_cli
from assay.cli.options import duration
from assay.cli.ray_options import engine_for
from assay.core.errors import BadInput


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("2s", 2.0), ("1m", 60.0), ("3", 3.0), ("0.5", 0.5), ("1 min", 60.0)]
)
def test_durations_have_a_unit_or_are_seconds(text, seconds):
    assert duration(text) == pytest.approx(seconds)


def test_no_duration_stays_none():
    assert duration(None) is None


@pytest.mark.parametrize("verb", ["bench", "replay"])
@pytest.mark.parametrize("text", ["0", "0ms", "-1", "soon", "nan", "inf", "1e308h", "1e999", "", "3 parsecs"])
def test_what_is_no_duration_is_told_by_every_verb_alike(verb, text, capsys):
    with pytest.raises(BadInput, match="--duration"):
        duration(text)
    assert run_cli([verb, "nothing-is-opened", f"--duration={text}"]) == 2
    said = capsys.readouterr().err
    assert f"--duration {text}" in said
    assert "try: --duration 3s" in said


@pytest.mark.parametrize(
    ("model", "cluster", "engine"),
    [("timm:resnet18", True, "onnxruntime"), ("timm:resnet18", False, None), ("{bundle}", True, None)],
)
def test_on_a_cluster_only_what_is_code_is_exported(tmp_path, model, cluster, engine):
    """A bundle is a file already, and opened by the engine it was proved with."""
    (tmp_path / "manifest.json").write_text("{}")
    values = {"engine_name": None, "model": model.format(bundle=tmp_path)}
    assert engine_for(values, object() if cluster else None) == engine
