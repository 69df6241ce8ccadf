"""The documentation as it is built: complete, at one with the code, and without a network."""

from __future__ import annotations

import html
import inspect
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import mullama_lab as ml

ROOT = Path(__file__).resolve().parents[1]
LOADED = {"src", "srcset", "poster", "data"}  # what a page fetches by itself, beside some links
LINKS = {"stylesheet", "preload", "modulepreload", "icon", "preconnect", "dns-prefetch", "manifest"}


class Loads(HTMLParser):
    """The addresses that a page loads when it is opened, without a click."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.in_code = False

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.addresses += [given[name] for name in LOADED & set(given)]
        if tag == "link" and LINKS & set(given.get("rel", "").split()):
            self.addresses.append(given["href"])
        self.addresses += addresses_in_css(given.get("style", ""))
        self.in_code = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.in_code = False

    def handle_data(self, data):
        if self.in_code:
            self.addresses += addresses_in_css(data) + addresses_in_script(data)


def addresses_in_css(text):
    return re.findall(r"(?:url\(|@import(?!\s+url\())\s*[\"']?([^\"')\s;]+)", text)


def addresses_in_script(text):
    return re.findall(r"\b(?:import|fetch|importScripts)\s*\(?\s*[\"'`](\w+://[^\"'`]+)", text)


def loaded_by(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        page = Loads()
        page.feed(text)
        return page.addresses
    return addresses_in_css(text) if path.suffix == ".css" else addresses_in_script(text)


def is_remote(address):
    return re.match(r"\s*(\w+:)?//", address) is not None


def test_what_a_page_would_load_from_another_host_is_found(tmp_path):
    page = tmp_path / "a.html"
    page.write_text(
        '<script src="https://a.example/a.js"></script><link rel="stylesheet" href="//b.example">'
        '<style>@import url(https://f.example); @import "http://c.example/c.css";'
        "p { background: url(http://d.example/d.png) }"
        '</style><script type="module">import("https://e.example/e.js")</script>'
        '<a href="https://no.example">a link</a><img src="_static/f.png"><p>url(http://no.example)'
    )
    remote = {address for address in loaded_by(page) if is_remote(address)}
    assert set(re.findall(r"//(\w+)\.", " ".join(remote))) == set("abcdef")


def test_no_page_loads_anything_from_another_host(documentation):
    files = [path for kind in ("html", "css", "js") for path in documentation.rglob(f"*.{kind}")]
    assert len(files) > 20
    for path in files:
        assert not [address for address in loaded_by(path) if is_remote(address)], path


def names_in_reference(documentation):
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((documentation / "objects.inv").read_bytes(), uri="")
    data = inventory.data if hasattr(inventory, "data") else inventory
    return {name for kind, names in data.items() if kind.startswith("py:") for name in names}


def public_names():
    """Every class and function that the package and its public modules list, as it is imported."""
    places = [(name, getattr(ml, name)) for name in ("errors", "hub", "labs", "plots", "widgets")]
    places += [(f"studies.{name}", getattr(ml.studies, name)) for name in ml.studies.__all__]
    names = {name for name in ml.__all__ if callable(getattr(ml, name))}
    for place, module in places:
        listed = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if is_own(value, name, module)
        ]
        names |= {f"{place}.{name}" for name in listed if callable(getattr(module, name))}
    return {f"mullama_lab.{name}" for name in names} - {"mullama_lab.Workbench"}  # labs.Workbench


def is_own(value, name, module):
    is_code = inspect.isclass(value) or inspect.isfunction(value)
    return is_code and name[0] != "_" and value.__module__ == module.__name__


def test_the_reference_has_every_public_name(documentation):
    names = public_names()
    assert {
        "mullama_lab.TopK",
        "mullama_lab.errors.ContextFull",
        "mullama_lab.plots.versus",
    } < names
    assert names - names_in_reference(documentation) == set()


def test_the_reference_says_shapes_and_errors(documentation):
    page = text_of(documentation / "api" / "sessions.html")
    assert "The row of logits after a prompt, float32 of shape (n_vocab,)." in page
    assert re.search(r"Raises:\s+ContextFull – the prompt does not fit\.", page)


def text_of(path):
    """What a page says, its tags left out."""
    bare = re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", html.unescape(bare))


def keys_of_views():
    """(keys, what they do) of every view, as its browser half lists them behind its "?"."""
    for path in sorted((ROOT / "widgets").glob("*.js")):
        listed = re.search(r"HELP = \[\n(.*?)\n\];", path.read_text(encoding="utf-8"), re.DOTALL)
        for line in listed[1].splitlines() if listed else ():
            yield json.loads(line.strip().rstrip(","))


def test_the_page_of_keys_has_all_that_the_views_list(documentation):
    page = text_of(documentation / "keys.html")
    listed = list(keys_of_views())
    assert len(listed) > 40
    for keys, what in listed:
        assert f" {keys} {what} " in page, (keys, what)


def test_every_lab_is_on_the_page_of_keys(documentation):
    page = text_of(documentation / "keys.html")
    assert [lab for lab in ml.labs.__all__ if lab not in page] == []


def outputs_of(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            yield output.get("data", {})


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_a_tutorial_shows_the_pictures_it_was_saved_with(documentation, name):
    page = (documentation / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
    pictures = ["".join(data.get("text/html", "")) for data in outputs_of(tutorial(name))]
    assert any(pictures)
    for picture in filter(None, pictures):
        assert picture.strip() in page


def tutorial(name):
    return ROOT / "notebooks" / f"{name}.ipynb"


def test_every_recipe_is_run():
    """A block of code without a prompt, or one that is skipped, would not be tried."""
    recipes = sorted((ROOT / "docs" / "recipes").glob("*.rst"))
    assert len(recipes) > 5
    for path in recipes:
        text = path.read_text(encoding="utf-8")
        assert "SKIP" not in text and "::\n" not in text.replace("toctree::\n", ""), path
        for title in re.findall(r"^(How do I .*)\n-+\n", text, re.MULTILINE):
            after = text.split(f"{title}\n", 1)[1]
            assert ">>> " in re.split(r"\n-{5,}\n", after.split("\n", 1)[1])[0], title
