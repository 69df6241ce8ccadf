"""The wheel, built through the source distribution and installed where no checkout is.

The new environment holds the wheel alone; what it depends on is seen through a path file, so
nothing is compiled again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ONE_OF_EACH = """
import inspect, json
import mullama_lab as ml

gifts = {"chain": ml.Chain.default(), "titles": {"a": "A"}, "shown": ["a"]}
halves = {}
for name in ml.widgets.__all__:
    kind = getattr(ml.widgets, name)
    if not hasattr(kind, "_esm"):
        continue
    required = [
        parameter.name
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    widget = kind(*[gifts[name] for name in required])
    halves[name] = [len(str(widget._esm)), len(str(widget._css))]
print(json.dumps({"package": ml.__file__, "version": ml.__version__, "halves": halves}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with the source distribution and the wheel that was made from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory) -> Path:
    """An environment outside the checkout with the wheel in it."""
    home = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(home)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = ["install", "--no-deps", "--no-index", "--quiet", wheel]
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", where, cwd=home).strip())
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(here)))
    return python


def test_the_wheel_carries_the_browser_half_and_the_notebooks(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    halves = ROOT / "widgets"
    for source in [*halves.glob("*.*s"), *halves.glob("shared/*.*s")]:
        path = source.relative_to(halves).as_posix()
        assert f"mullama_lab/widgets/static/{path}" in names
    for source in ROOT.glob("notebooks/*.ipynb"):
        assert f"mullama_lab/_notebooks/{source.name}" in names
    assert "mullama_lab/_notebooks/00_tour.ipynb" in names
    assert "mullama_lab/engine/steering/vectors/happy.gguf" in names
    assert "mullama_lab/_notebooks/data/pirate.gguf" in names
    assert not [name for name in names if ".test." in name or name.startswith(("tests", "widgets"))]


EXTENSION = "jupyter/labextensions/mullama-lab"  # below widgets here, below share when installed


def test_the_wheel_carries_the_jupyterlab_extension(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = f"{'-'.join(wheel.stem.split('-')[:2])}.data/data"
    here = ROOT / "widgets"
    for source in (here / EXTENSION).rglob("*.js*"):
        assert f"{data}/share/{source.relative_to(here).as_posix()}" in names
    package = json.loads((here / EXTENSION / "package.json").read_text())
    assert f"{data}/share/{EXTENSION}/{package['jupyterlab']['_build']['load']}" in names
    assert package["version"] == wheel.stem.split("-")[1]


def test_jupyterlab_finds_the_installed_extension(elsewhere, tmp_path):
    program = """
import json
from jupyter_core.paths import jupyter_path
from jupyterlab_server.config import get_federated_extensions
print(json.dumps(get_federated_extensions(jupyter_path("labextensions"))["mullama-lab"]))
"""
    found = json.loads(run(elsewhere, "-c", program, cwd=tmp_path).splitlines()[-1])
    assert Path(found["ext_path"]) == elsewhere.parents[1] / "share" / EXTENSION
    assert found["install"]["packageName"] == "mullama-lab"


def test_the_source_distribution_has_what_the_tests_need(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.split("/", 1)[1] for name in files.getnames() if "/" in name}
    for needed in ("hatch_build.py", "pyproject.toml", "LICENSE", "tests/conftest.py"):
        assert needed in names
    assert any(name.startswith("widgets/dev/") for name in names)
    assert any(name.startswith("notebooks/") for name in names)


def test_one_of_each_widget_is_made_where_no_checkout_is(elsewhere, tmp_path):
    said = json.loads(run(elsewhere, "-c", ONE_OF_EACH, cwd=tmp_path).splitlines()[-1])
    assert elsewhere.parents[1] in Path(said["package"]).parents
    assert said["halves"], "mullama_lab.widgets exports no widget"
    for name, (module, style) in said["halves"].items():
        assert module > 100 and style > 100, name


def test_the_installed_command_and_server_extension_are_there(elsewhere, tmp_path):
    command = elsewhere.with_name("mullama-lab.exe" if os.name == "nt" else "mullama-lab")
    assert "smollm2-135m" in run(command, "models", cwd=tmp_path)
    enabled = elsewhere.parents[1] / "etc/jupyter/jupyter_server_config.d/mullama_lab.json"
    extensions = json.loads(enabled.read_text())["ServerApp"]["jpserver_extensions"]
    assert extensions == {"mullama_lab.server_extension": True}
