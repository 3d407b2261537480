"""``assay --help`` imports nothing that is slow to import or may be absent."""

import re
import subprocess
import sys

from assay.cli.main import VERBS

NAMES = """
    PIL cv2 grpc jinja2 matplotlib ml_dtypes nncf numpy onnx onnx_graphsurgeon onnxruntime onnxscript onnxsim onnxslim
    openvino pandas polygraphy ray rich safetensors scipy skimage sklearn tensorrt timm torch torchaudio torchvision
    transformers tritonclient
"""
HEAVY = frozenset(NAMES.split())
RUN = "import sys; sys.argv = ['assay', *sys.argv[1:]]; from assay.cli.main import main; main()"


def imported(*arguments):
    """Top-level names of everything that was imported, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", RUN, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    modules = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s*(\S+)$", done.stderr, re.MULTILINE)
    assert "click" in modules and "assay.cli.main" in modules
    return set(modules), done.stdout


def test_help_imports_nothing_heavy():
    modules, text = imported("--help")
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    missing = [verb for verb in VERBS if verb not in text]
    assert missing == []


def test_help_imports_no_verb():
    modules, _ = imported("--help")
    targets = {target.partition(":")[0] for target in VERBS.values()}
    assert modules & targets == set()


def test_version_imports_nothing_heavy():
    modules, _ = imported("--version")
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
