"""Python runs this as it starts, here and in every child: the packages that ASSAY_ABSENT names are not installed."""

import os
import sys
from importlib.machinery import PathFinder

ABSENT = frozenset(os.environ.get("ASSAY_ABSENT", "").split(","))


class Installed(PathFinder):
    """Finds what is on the path, modules and their metadata, less what is absent."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *context):
        there = super().find_distributions(*context)
        return (d for d in there if d.metadata["Name"].replace("-", "_").lower() not in ABSENT)


sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
