"""The rules of the house, checked on the source itself: each failure names the file and the line."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from assay.core.table import load

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "assay"
TARGET = re.compile(r"^assay(\.\w+)+:\w+$")
MAX_PARAMETERS, MAX_FUNCTION_LINES, MAX_FILE_LINES = 6, 60, 400
ENVIRONMENT_READERS = ("cli/", "measure/environment.py", "core/child.py")
CLOCKS = ("core/clock.py", "core/child.py")
CLOCK_CALLS = frozenset({"time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the package, by its path below src/assay."""
    found = {p.relative_to(SRC).as_posix(): ast.parse(p.read_text(), str(p)) for p in sorted(SRC.rglob("*.py"))}
    assert len(found) > 40
    return found


def nodes(kind: type | tuple[type, ...], outside: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.AST]]:
    for path, tree in sources().items():
        if not path.startswith(outside):
            yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kind))


def where(path: str, node: ast.AST, what: str) -> str:
    return f"{path}:{node.lineno}: {what}"


# Tables


@cache
def tables() -> dict[str, dict[str, str]]:
    """Every module-level dict of ``"name": "package.module:attribute"``, by ``path:NAME``."""
    found = {}
    for path, tree in sources().items():
        for node in tree.body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if not isinstance(value, ast.Dict) or not value.values:
                continue
            entries = [(k, v) for k, v in zip(value.keys, value.values, strict=True) if isinstance(v, ast.Constant)]
            texts = {ast.literal_eval(k): v.value for k, v in entries if isinstance(k, ast.Constant)}
            if texts and all(isinstance(t, str) and TARGET.match(t) for t in texts.values()):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found[f"{path}:{ast.unparse(target)}"] = texts
    return found


@cache
def single_targets() -> dict[str, str]:
    """Module-level constants that name one target, such as the source that is asked before any table."""
    return {
        f"{path}:{ast.unparse(node.targets[0])}": node.value.value
        for path, tree in sources().items()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str) and TARGET.match(node.value.value)
    }


def test_the_tables_are_where_the_architecture_says():
    expected = {
        "cli/main.py:VERBS",
        "data/__init__.py:READERS",
        "data/__init__.py:TRANSFORMS",
        "engines/__init__.py:ENGINES",
        "graph/passes/__init__.py:PASSES",
        "precision/__init__.py:METHODS",
        "present/__init__.py:FORMATS",
        "sources/__init__.py:FILES",
        "sources/__init__.py:SCHEMES",
        "tasks/__init__.py:TASKS",
    }
    assert expected - set(tables()) == set()


def test_every_table_entry_resolves_without_its_library():
    """A target's module imports its library inside its functions, so resolving never needs it."""
    targets = {f"{table}[{name!r}]": target for table, entries in tables().items() for name, target in entries.items()}
    broken = []
    for place, target in {**targets, **single_targets()}.items():
        try:
            found = load(target)
        except (ImportError, AttributeError) as error:
            broken.append(f"{place} -> {target}: {error}")
            continue
        if not callable(found):
            broken.append(f"{place} -> {target}: is a {type(found).__name__}, nothing to call")
    assert broken == []


FACTORIES = {
    "engines": lambda node: isinstance(node, ast.ClassDef) and node.name.endswith("Engine"),
    "data": lambda node: isinstance(node, Function) and node.name.startswith("open_"),
    "tasks": lambda node: isinstance(node, Function) and _first_annotation(node) == "TaskOptions",
    "sources": lambda node: isinstance(node, Function) and node.name.startswith("open_"),
    "precision": lambda node: isinstance(node, Function) and node.name == "lower",
    "present": lambda node: isinstance(node, Function) and node.name == "render",
    "graph/passes": lambda node: isinstance(node, Function) and _takes_and_gives(node, "onnx.ModelProto"),
    "cli": lambda node: isinstance(node, Function) and node.name == "command",
}
"""What an implementation looks like in each folder."""


def _first_annotation(node: Function) -> str | None:
    arguments = node.args.args
    return ast.unparse(arguments[0].annotation) if arguments and arguments[0].annotation else None


def _takes_and_gives(node: Function, kind: str) -> bool:
    gives = ast.unparse(node.returns) if node.returns else None
    return _first_annotation(node) == gives == kind and not node.name.startswith("_")


@pytest.mark.parametrize("folder", FACTORIES)
def test_every_implementation_is_in_its_table(folder):
    targets = {target for entries in tables().values() for target in entries.values()}
    targets |= set(single_targets().values())
    found = [
        f"assay.{path.removesuffix('.py').replace('/', '.')}:{node.name}"
        for path, tree in sources().items()
        if path.startswith(f"{folder}/")
        and path.count("/") == folder.count("/") + 1
        and not path.endswith("__init__.py")
        for node in tree.body
        if FACTORIES[folder](node)
    ]
    assert found, f"nothing in {folder}/ looks like an implementation: adapt FACTORIES"
    assert [name for name in found if name not in targets] == []


def test_the_verbs_have_summaries_and_groups():
    from assay.cli.main import GROUPS, SUMMARIES, VERBS

    assert set(SUMMARIES) == set(VERBS)
    assert sorted(name for _, names in GROUPS for name in names) == sorted(VERBS)


def test_report_formats_have_suffixes():
    from assay.present import FORMATS, SUFFIXES

    assert set(FORMATS) == set(SUFFIXES)
    assert len(set(SUFFIXES.values())) == len(SUFFIXES)


# The star


def test_import_contracts_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout)


def test_every_folder_has_its_place_in_the_star():
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (star,) = [c for c in configuration["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    placed = {name.strip() for layer in star["layers"] for name in layer.split("|")}
    folders = {f"assay.{p.parent.name}" for p in SRC.glob("*/__init__.py")}
    assert folders - placed == set()


# Size


def test_no_function_takes_more_than_six_parameters():
    def parameters(node: Function) -> list[str]:
        a = node.args
        names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
        return names[1:] if names[:1] in (["self"], ["cls"]) else names

    found = [
        where(path, node, f"{node.name} takes {len(parameters(node))}: group them into a noun")
        for path, node in nodes(Function)
        if len(parameters(node)) > MAX_PARAMETERS
    ]
    assert found == []


def test_no_function_is_over_sixty_lines():
    found = [
        where(path, node, f"{node.name} has {lines} lines")
        for path, node in nodes(Function)
        if (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert found == []


def test_no_file_is_over_four_hundred_lines():
    lengths = {path: len((SRC / path).read_text().splitlines()) for path in sources()}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_module_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert [path for path in sources() if drawers & set(Path(path).with_suffix("").parts)] == []


# Behaviour


def test_the_environment_is_read_in_three_places():
    found = [
        where(path, node, ast.unparse(node))
        for path, node in nodes(ast.Attribute, outside=ENVIRONMENT_READERS)
        if isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in ("environ", "getenv", "putenv")
    ]
    found += [
        where(path, node, ast.unparse(node))
        for path, node in nodes(ast.ImportFrom, outside=ENVIRONMENT_READERS)
        if node.module == "os" and {"environ", "getenv", "putenv"} & {alias.name for alias in node.names}
    ]
    assert found == []


def test_there_is_one_clock():
    found = [
        where(path, node, ast.unparse(node))
        for path, node in nodes(ast.Attribute, outside=CLOCKS)
        if isinstance(node.value, ast.Name) and node.value.id == "time" and node.attr in CLOCK_CALLS
    ]
    found += [
        where(path, node, ast.unparse(node))
        for path, node in nodes(ast.ImportFrom, outside=CLOCKS)
        if node.module == "time" and CLOCK_CALLS & {alias.name for alias in node.names}
    ]
    assert found == []


def test_only_the_command_line_prints():
    found = [
        where(path, node, ast.unparse(node)[:80])
        for path, node in nodes(ast.Call, outside=("cli/",))
        if isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_no_engine_is_a_special_case_outside_its_folder():
    """``if engine == "openvino"`` belongs into that engine; others ask what an engine says of itself."""
    names = set(tables()["engines/__init__.py:ENGINES"])
    found = []
    for path, node in nodes(ast.Compare, outside=("engines/",)):
        sides = [node.left, *node.comparators]
        constants = {c.value for side in sides for c in ast.walk(side) if isinstance(c, ast.Constant)}
        others = " ".join(ast.unparse(side) for side in sides if not isinstance(side, ast.Constant))
        if names & {c for c in constants if isinstance(c, str)} and "engine" in others.lower():
            found.append(where(path, node, ast.unparse(node)))
    for path, node in nodes(ast.Match, outside=("engines/",)):
        values = {c.value for case in node.cases for c in ast.walk(case.pattern) if isinstance(c, ast.Constant)}
        if names & {c for c in values if isinstance(c, str)} and "engine" in ast.unparse(node.subject).lower():
            found.append(where(path, node, f"match {ast.unparse(node.subject)}"))
    assert found == []


def test_nothing_is_left_for_later():
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate((SRC / path).read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []


def test_not_implemented_stands_in_base_classes_alone():
    """A class that others in the package derive from may leave methods to them; nothing else may."""
    bases = {ast.unparse(base).partition("[")[0] for _, node in nodes(ast.ClassDef) for base in node.bases}
    allowed = {id(inner) for _, node in nodes(ast.ClassDef) if node.name in bases for inner in ast.walk(node)}
    found = [
        where(path, node, ast.unparse(node))
        for path, node in nodes(ast.Raise)
        if node.exc is not None and "NotImplementedError" in ast.unparse(node.exc) and id(node) not in allowed
    ]
    assert found == []


def test_the_rules_catch_what_they_are_for():
    """The checks above on source that breaks them, so that a check that never fires is noticed."""
    tree = ast.parse("import os, time\nif engine == 'openvino' and os.environ:\n    print(time.time())\n")
    before = sources()
    before["broken.py"] = tree
    try:
        for rule in (
            test_the_environment_is_read_in_three_places,
            test_there_is_one_clock,
            test_only_the_command_line_prints,
            test_no_engine_is_a_special_case_outside_its_folder,
        ):
            with pytest.raises(AssertionError, match=r"broken\.py"):
                rule()
    finally:
        del before["broken.py"]
