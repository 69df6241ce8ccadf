"""What holds for the repository as a whole: style, types, layers, names."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mullama_lab

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("pandas", "matplotlib", "IPython", "ipywidgets", "anywidget", "jupyterlab")


def check(*command: str) -> None:
    """Run a program in the repository's folder; what it prints is the failure."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=600
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def loaded_by(program: str) -> set[str]:
    """The modules a fresh interpreter has loaded after running a program."""
    program += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_ruff_has_nothing_to_say():
    check(sys.executable, "-m", "ruff", "check", ".")


def test_pyright_has_nothing_to_say():
    check(sys.executable, "-m", "pyright", "--pythonpath", sys.executable)


def test_no_module_imports_a_layer_above_it():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    check(sys.executable, "-c", program, "--no-cache")


class AsItRuns(ast.NodeTransformer):
    """Leaves out what a module imports for the type checker alone."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_typing else self.generic_visit(node)


def imports_of(name: str, path: Path, modules: set[str], *, typing: bool) -> set[str]:
    """The modules of ours that one imports: anywhere in it, for the type checker too or not."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree if typing else AsItRuns().visit(tree)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {inner if inner in modules else str(node.module) for inner in names}
    return (found & modules) - {name}


@pytest.mark.parametrize("part", ["engine", "files", "hub", "labs", "plots", "studies", "widgets"])
def test_no_module_imports_itself_by_way_of_another(part):
    typing = part != "engine"  # whose parts name a Model, which stands above them
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "mullama_lab").rglob("*.py")
        if path.relative_to(ROOT / "mullama_lab").with_suffix("").parts[:1] == (part,)
    }
    assert modules
    graph = {
        name: imports_of(name, path, set(modules), typing=typing) for name, path in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_no_study_asks_another():
    """But for a fate, which tells the margin of what removed the token."""
    folder = ROOT / "mullama_lab" / "studies"
    paths = {path.relative_to(folder): path for path in folder.rglob("*.py")}
    modules = {
        ".".join(("mullama_lab", "studies", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path in paths
    }
    asks = set()
    for path, whole in paths.items():
        study = path.with_suffix("").parts[0]
        found = imports_of("mullama_lab.studies", whole, modules, typing=True)
        asks |= {(study, name.split(".")[2]) for name in found}
    others = {(one, two) for one, two in asks if one not in (two, "__init__")}
    assert {(one, two) for one, two in others if not two.startswith("_")} == {("fate", "margin")}


PROTOCOLS = {"_repr_mimebundle_", "_repr_html_", "_repr_svg_", "_replace", "_asdict", "_fields"}
OF_PYTHON = {"_exit", "_getframe", "_use_fd_functions"}
"""Names that begin like private ones: of displays and tuples, and of Python's own modules."""


def is_private(name: str) -> bool:
    return bool(re.fullmatch(r"_[a-zA-Z]\w*", name)) and name not in PROTOCOLS | OF_PYTHON


def private_names(source: str) -> list[str]:
    """What a test reaches into: private attributes of others, and private things it imports.

    Also those that it patches by their name, and those in programs that it runs, which are texts.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            own = ast.unparse(node.value) in ("self", "cls", "super()")
            found += [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            found += [*str(node.module).split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setattr":
            found += [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += re.findall(r"(?<!\bself)(?<!\bcls)\.(_[a-zA-Z]\w*)", node.value)
    return [name for name in found if is_private(name)]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("model._memory, self._own, super()._own, x._replace(a=1), os._exit(0)", ["_memory"]),
        ("from mullama_lab.widgets._view import View", ["_view"]),
        ("from mullama_lab.engine.session.fit import _room", ["_room"]),
        ("monkeypatch.setattr(matcher, '_made', 3)", ["_made"]),
        ("monkeypatch.setattr('mullama_lab.engine.native.layouts._ggml', 3)", ["_ggml"]),
        ("CODE = 'print(run._news, self._own)'", ["_news"]),
    ],
)
def test_what_is_private_is_found(source, names):
    assert private_names(source) == names


def test_tests_of_the_engine_reach_into_nothing_private():
    reached = {
        str(path.relative_to(ROOT)): names
        for path in (ROOT / "tests" / "engine").rglob("*.py")
        if (names := private_names(path.read_text(encoding="utf-8")))
    }
    assert reached == {}


def test_no_test_asks_a_view_but_as_a_page_does():
    """By `tests/shared/page.py`: what a view answers with and shows is reached from outside."""
    inside = {"_answer", "_on_request", "_receive", "_plain_text"}
    for path in (ROOT / "tests").rglob("*.py"):
        assert not inside & set(private_names(path.read_text(encoding="utf-8"))), path


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import mullama_lab") & {*HEAVY, "llama_cpp", "numpy"}


def test_the_engine_loads_no_view_and_no_pandas():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "mullama_lab" / "engine").rglob("*.py")
        if path.stem != "__init__"
    ]
    assert not loaded_by(f"import {', '.join(modules)}") & set(HEAVY)


def test_importing_the_package_takes_under_150_ms_beyond_numpy():
    program = (
        "import time, numpy; start = time.perf_counter()\n"
        "import mullama_lab; print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", program], text=True)) for _ in range(5)
    ]
    assert min(seconds) < 0.150, seconds


def test_every_public_name_is_there():
    for name in mullama_lab.__all__:
        assert getattr(mullama_lab, name) is not None, name


def test_every_study_is_reached_by_its_name_and_loaded_on_first_use():
    found = pkgutil.iter_modules(mullama_lab.studies.__path__)
    studies = {module.name for module in found if not module.name.startswith("_")}
    assert set(mullama_lab.studies.__all__) == studies == set(dir(mullama_lab.studies))
    for name in studies:
        module = getattr(mullama_lab.studies, name)
        assert module is importlib.import_module(f"mullama_lab.studies.{name}")
    assert not loaded_by("import mullama_lab as ml; ml.studies") & {*HEAVY, "llama_cpp", "numpy"}
    with pytest.raises(AttributeError, match="mullama_lab.studies' has no attribute 'Nonesuch'"):
        _ = mullama_lab.studies.Nonesuch


@pytest.mark.parametrize("name", ["", "labs", "plots", "studies", "widgets"])
def test_tab_completion_offers_the_public_names_in_order(name):
    module = getattr(mullama_lab, name) if name else mullama_lab
    assert dir(module) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_what_the_type_checker_sees_is_what_loads_on_first_use():
    tree = ast.parse(Path(mullama_lab.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name for node in imports for alias in node.names}
    assert seen | {"__version__"} == set(mullama_lab.__all__)
    for node in imports:
        home = importlib.import_module(str(node.module))
        for alias in node.names:
            assert getattr(mullama_lab, alias.name) is getattr(home, alias.name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nonesuch'"):
        _ = mullama_lab.Nonesuch


EXTRAS = {"playwright": "test", "onnxruntime": "test"}
"""Where libraries are declared that the lab does without; the bench uses those of the tests."""


def declared(extra: str) -> set[str]:
    """The distributions that the package asks for, bare or with an extra."""
    names = set()
    for line in metadata.requires("mullama-lab") or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            names.add(canonicalize_name(wanted.name))
    return names


def test_every_library_that_is_imported_is_declared():
    imported = set()
    for path in (ROOT / "mullama_lab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).split(".")[0])
    homes = metadata.packages_distributions()
    for name in sorted(imported - sys.stdlib_module_names - {"mullama_lab"}):
        allowed = declared(EXTRAS.get(name, "lab"))
        assert {canonicalize_name(home) for home in homes[name]} & allowed, name


def test_the_conda_environment_names_what_the_lab_needs():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    named = {canonicalize_name(name) for name in re.findall(r"^  - ([\w-]+) ", text, re.MULTILINE)}
    assert declared("lab") <= {"matplotlib" if n == "matplotlib-base" else n for n in named}
