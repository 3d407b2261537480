"""The one compiled part: ``assay.data._resample``.  Everything else about the package is in pyproject.toml.

The extension is optional: where no compiler is found the package installs without it and images are
resized by Pillow, with equal bits and less speed.
"""

import sys

from setuptools import Extension, setup

# Contraction would fuse multiply and add, which rounds differently from what Pillow was built with.
FLAGS = ["/O2", "/fp:strict"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"]

setup(
    ext_modules=[
        Extension(
            "assay.data._resample",
            ["src/assay/data/_resample.c"],
            extra_compile_args=FLAGS,
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
