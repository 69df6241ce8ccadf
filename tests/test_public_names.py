"""Tab completion offers what is meant to be used, in every module that a person meets."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import anywidget
import ipywidgets
import pytest
from IPython.core.completer import IPCompleter, provisionalcompleter

import mullama_lab as ml
from mullama_lab.widgets._kept import OFFERED

PACKAGES = ("studies", "widgets", "labs", "engine")


def public_modules() -> list[str]:
    """The package, its public modules, and those of the packages that hold one idea a module."""
    found = [ml.__name__, "mullama_lab.notebook"]
    found += [f"{ml.__name__}.{name}" for name in ml._MODULES]
    for package in PACKAGES:
        path = f"{ml.__name__}.{package}"
        module = importlib.import_module(path)
        names = {info.name for info in pkgutil.iter_modules(module.__path__)}
        if package == "engine":  # the rest of it is how it is built
            names &= set(module.__all__)
        found += [f"{path}.{name}" for name in sorted(names) if not name.startswith("_")]
    return sorted(found)


@pytest.mark.parametrize("path", public_modules())
def test_a_module_offers_its_public_names_alone(path):
    module = importlib.import_module(path)
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        thing = getattr(module, name)
        assert name == "__version__" or not name.startswith("_")
        is_made = inspect.isfunction(thing) or inspect.isclass(thing) or inspect.ismodule(thing)
        if is_made and name != "State":  # another name for a tuple
            home = thing.__name__ if inspect.ismodule(thing) else thing.__module__
            assert home.startswith("mullama_lab"), f"{path}.{name} is {home}'s"


@pytest.mark.parametrize("path", [f"mullama_lab.studies.{name}" for name in ml.studies.__all__])
def test_no_public_function_of_a_study_is_forgotten(path):
    module = importlib.import_module(path)
    own = {
        name
        for name, thing in vars(module).items()
        if (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == path
        and not name.startswith("_")
    }
    assert own - {"learnt_margin"} <= set(module.__all__)


def offered(text, jedi, **names):
    """What the completer of a notebook offers behind a text."""
    completer = IPCompleter(namespace=names, use_jedi=jedi)
    with provisionalcompleter():
        found = {each.text.lstrip(".") for each in completer.completions(text, len(text))}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("jedi", [False, True])
def test_the_completer_of_a_notebook_offers_them(jedi):
    assert offered("ml.studies.sweeps.", jedi, ml=ml) == {"SweepStopped", "grid", "sweep"}


@pytest.mark.parametrize("jedi", [False, True])
@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("lab.", {"run", "set", "tree", "strip", "snapshot", "to_code"}),
        ("labs[0].", {"run", "set", "tree", "strip", "snapshot", "to_code"}),
        ("lab.strip.", {"follow", "trace", "layer", "snapshot", "to_code"}),
        ("strip.", {"follow", "trace", "layer", "snapshot", "to_code"}),
    ],
)
def test_of_a_lab_or_view_it_offers_what_a_person_uses(text, own, jedi):
    lab = ml.Workbench(prompt="Hello")
    found = offered(text, jedi, lab=lab, labs=[lab], strip=lab.strip)
    every_widget_has = {*dir(ipywidgets.Box), *dir(anywidget.AnyWidget)}
    assert found & every_widget_has == set(OFFERED)
    assert own <= found and "from_browser" not in found
    lab.close()
