from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput
from assay.core.shapes import parse_shape
from assay.sources import list_models, resolve_model


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_class(options, net_file: Path) -> None:
    model = resolve_model(f"{net_file}:Net", options())
    assert model.name == "Net"
    assert str(model.inputs[0]) == "image:batchx2x8x8:float32"
    assert model.runs_code == (str(net_file),)
    assert model.artifact.runs_code
    assert model.randomised
    assert model.artifact.module()(torch.zeros(1, 2, 8, 8)).shape == (1, 3)


def test_class_with_arguments(options, net_file: Path) -> None:
    model = resolve_model(f"{net_file}:Net?width=7", options())
    assert model.artifact.module().head.in_features == 7
    with pytest.raises(BadInput, match=r"Net could not be built with depth=7"):
        resolve_model(f"{net_file}:Net?depth=7", options())


def test_function_and_registered_name(options, tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.py",
        """
from torch import nn
import assay.sources

@assay.sources.register_model(name="small/net")
def _hidden():
    return nn.Linear(3, 2)

def build():
    return nn.Linear(4, 2)
build.assay_inputs = "x:batchx4"
build.assay_preprocess = {"kind": "none"}
build.assay_labels = ("cat", "dog")
""",
    )
    model = resolve_model(f"{path}:build", options())
    assert (model.preprocess, model.labels) == ({"kind": "none"}, ("cat", "dog"))
    assert resolve_model(f"{path}:build", options()).artifact.sha256 == model.artifact.sha256
    assert list_models("small/*") == ["small/net"]
    assert resolve_model("small/net", options()).artifact.module().in_features == 3


def test_registered_name_in_a_file(options, tmp_path: Path) -> None:
    path = write(
        tmp_path / "reg.py",
        "from torch import nn\nfrom assay.sources import register_model\n"
        '@register_model(name="short")\ndef _f(): return nn.Linear(3, 2)\n',
    )
    assert resolve_model(f"{path}:short", options()).artifact.module().in_features == 3


def test_missing_name_lists_what_is_there(options, net_file: Path) -> None:
    with pytest.raises(BadInput, match="no model 'Nett'; there are: Net") as caught:
        resolve_model(f"{net_file}:Nett", options())
    assert f"{net_file}:Net" in caught.value.remedy


@pytest.mark.parametrize("end", ["", ":"])
def test_no_name_lists_what_is_there_without_running_it(options, tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "boom.py", "raise SystemExit(3)\ndef net(): ...\n")
    with pytest.raises(BadInput, match="needs the name of a model in it; there are: net"):
        resolve_model(f"{path}{end}", options())


def test_name_that_is_something_else(options, tmp_path: Path) -> None:
    path = write(tmp_path / "n.py", "x = 3\n")
    with pytest.raises(BadInput, match=r"'x' in .* is a int; there are: none"):
        resolve_model(f"{path}:x", options())


def test_function_that_gives_no_module(options, tmp_path: Path) -> None:
    path = write(tmp_path / "n.py", "def f():\n    return 3\n")
    with pytest.raises(BadInput, match="f gave a int"):
        resolve_model(f"{path}:f", options())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "not valid Python"),
        ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*, line 2\)"),
        ("import nowhere_to_be_found\n", "nowhere_to_be_found"),
        ("raise SystemExit(0)\n", "SystemExit"),
        ("\nimport torch\n\ndef f():\n    raise ValueError('no luck')\n", r"no luck \(.*, line 5\)"),
        ("def f(a):\n    return a\n", "missing 1 required positional argument"),
        ("from torch import nn\ndef f(): return nn.Linear(1, 1)\nf.assay_inputs = [3]\n", "assay_inputs"),
        ("from torch import nn\ndef f(): return nn.Linear(1, 1)\nf.assay_preprocess = 3\n", "assay_preprocess"),
    ],
)
def test_broken_files(options, tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "broken.py", text)
    with pytest.raises(BadInput, match=said):
        resolve_model(f"{path}:f", options())
    assert not any(n.startswith("assay_user_broken") for n in sys.modules) or "f" in text


def test_edited_file_is_loaded_again(options, tmp_path: Path) -> None:
    text = "from torch import nn\ndef f(): return nn.Linear({}, 2)\n"
    path = write(tmp_path / "e.py", text.format(3))
    first = resolve_model(f"{path}:f", options())
    write(path, text.format(4))
    second = resolve_model(f"{path}:f", options())
    assert second.artifact.module().in_features == 4
    assert first.artifact.sha256 != second.artifact.sha256


def test_modules_beside_the_file(options, tmp_path: Path) -> None:
    text = "from torch import nn\nclass Part(nn.Linear):\n    def __init__(self): super().__init__({}, 2)\n"
    main = "from assay_test_part import Part\ndef f(): return Part()\n"
    digests = []
    for i, folder in enumerate((tmp_path / "a", tmp_path / "b")):
        folder.mkdir()
        write(folder / "assay_test_part.py", text.format(i + 3))
        path = write(folder / "m.py", main)
        model = resolve_model(f"{path}:f", options())
        assert model.artifact.module().in_features == i + 3
        written = json.loads(model.artifact.path.read_text())
        assert [c["file"] for c in written["code"]] == ["assay_test_part.py", "m.py"]
        digests.append(model.artifact.sha256)
    assert str(tmp_path / "a") not in sys.path
    write(tmp_path / "b" / "assay_test_part.py", text.format(4) + "# edited\n")
    assert resolve_model(f"{path}:f", options()).artifact.sha256 not in digests


def test_loaded_weights_are_kept(options, tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    path = write(
        tmp_path / "l.py",
        f"import torch\nfrom torch import nn\ndef f():\n    n = nn.Linear(3, 2)\n"
        f"    n.load_state_dict(torch.load({str(tmp_path / 'w.pt')!r}))\n    return n\n",
    )
    model = resolve_model(f"{path}:f", options())
    assert not model.randomised
    assert "as f brings them" in model.weights
    assert torch.equal(model.artifact.module().weight, net.weight)


def test_what_was_computed_on_purpose_is_kept(options, tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.py",
        """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blur = nn.Parameter(torch.tensor([1.0, 2.0, 1.0]), requires_grad=False)
        self.fc = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)
        nn.init.zeros_(self.norm.weight)
    def forward(self, x):
        return self.norm(self.fc(x * self.blur))
""",
    )
    model = resolve_model(f"{path}:Net", options(shapes=(parse_shape("x:batchx3"),)))
    assert model.randomised
    assert "1 left as the builder made them" in model.weights
    assert model.artifact.module().blur.tolist() == [1, 2, 1]
    assert bool(model.artifact.module().norm.weight.all())


def test_module_without_parameters(options, tmp_path: Path) -> None:
    path = write(tmp_path / "z.py", "from torch import nn\ndef f(): return nn.ReLU()\n")
    model = resolve_model(f"{path}:f", options())
    assert not model.randomised
    assert "no parameters" in model.weights


def test_module_object(options, tmp_path: Path) -> None:
    path = write(tmp_path / "o.py", "import torch\nfrom torch import nn\nnet = nn.Linear(2, 2)\n")
    assert "as net brings them" in resolve_model(f"{path}:net", options()).weights


def test_the_callers_random_state_is_left_alone(options, net_file: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    resolve_model(f"{net_file}:Net", options())
    assert torch.equal(torch.rand(1), expected)


def test_a_mistake_in_a_file_beside_is_told_of_that_file(options, tmp_path: Path) -> None:
    write(tmp_path / "beside_broken.py", "\n\ndef f(:\n")
    path = write(tmp_path / "user.py", "import beside_broken\ndef net(): pass\n")
    with pytest.raises(BadInput, match=r"beside_broken\.py is not valid Python.*line 3"):
        resolve_model(f"{path}:net", options())
