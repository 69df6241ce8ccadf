"""Saved chains come back as they were, and a file that is damaged is left alone."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mullama_lab as ml
from mullama_lab.engine.stages import presets
from mullama_lab.errors import PresetError
from mullama_lab.glyphs import visible


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MULLAMA_LAB_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


CHAIN = ml.LogitBias({5: -math.inf}) | ml.DRY(multiplier=0.8) | ml.Ban(["é", "a b"]) | ml.TopK(7)


def test_a_saved_chain_comes_back_by_its_name(folder):
    CHAIN.save("my chain_1-ü")
    assert ml.Chain.preset("my chain_1-ü") == CHAIN
    assert ml.Chain.presets()["my chain_1-ü"] == CHAIN
    assert [path.name for path in folder.iterdir() if path.suffix == ".json"] == ["presets.json"]
    ml.Chain.delete_preset("my chain_1-ü")
    assert set(ml.Chain.presets()) == set(presets.BUILT_IN)


def test_the_list_says_what_each_chain_is_and_which_are_yours():
    ml.Chain([ml.TopK(9)]).save("mine")
    lines = repr(ml.Chain.presets()).splitlines()
    assert lines[0].startswith("default         Penalties() | DRY()")
    assert "creative-min-p  MinP(0.1) | Temperature(1.5)" in lines
    assert lines[-1] == "mine            Chain([TopK(9)])  (yours)"


def test_what_is_built_in_is_neither_overwritten_nor_deleted():
    for name, stages in presets.BUILT_IN.items():
        with pytest.raises(ValueError, match="is the name of a built-in chain"):
            CHAIN.save(name, replace=True)
        with pytest.raises(ValueError, match="is a built-in chain, which cannot be deleted"):
            ml.Chain.delete_preset(name)
        assert ml.Chain.preset(name) == ml.Chain(stages)
    assert ml.Chain.preset("default") == ml.Chain.default()


def test_a_name_that_is_taken_is_replaced_only_when_that_is_said():
    CHAIN.save("mine")
    with pytest.raises(ValueError, match=r"already.*save\('mine', replace=True\)"):
        ml.Chain().save("mine")
    assert ml.Chain.preset("mine") == CHAIN
    ml.Chain().save("mine", replace=True)
    assert ml.Chain.preset("mine") == ml.Chain()


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "a" * 41, "a/b", "../a", "a.json", "a\nb", "a\0", "\ud800", "%", "é\u20dd"],
)
def test_a_name_is_letters_digits_and_a_few_signs(name, folder):
    for call in (CHAIN.save, ml.Chain.preset, ml.Chain.delete_preset):
        with pytest.raises(ValueError, match="is no name for a chain"):
            call(name)
    assert not folder.exists()


@pytest.mark.parametrize("name", [None, 5, b"a", ["a"]])
def test_a_name_is_a_text(name):
    for call in (CHAIN.save, ml.Chain.preset, ml.Chain.delete_preset):
        with pytest.raises(TypeError, match="the name of a chain is a text"):
            call(name)


def test_a_name_that_is_not_there_says_which_are():
    CHAIN.save("creative")
    with pytest.raises(ValueError, match=r"no chain 'creativ'. Did you mean 'creative'.* plain"):
        ml.Chain.preset("creativ")
    with pytest.raises(ValueError, match="There are default, greedy"):
        ml.Chain.delete_preset("xyz")


def test_a_custom_stage_cannot_be_saved_and_says_so(folder):
    with pytest.raises(ValueError, match="a Python function is code, not a value"):
        (ml.TopK(5) | ml.Custom(abs)).save("mine")
    assert not folder.exists()


DAMAGED = {
    "cut off": b'{"format": 1, "cha',
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "another format": b'{"format": 2, "chains": {}}',
    "no chains": b'{"format": 1}',
    "chains in a list": b'{"format": 1, "chains": []}',
    "deep": b"[" * 200_000,
    "a huge number": b'{"format": ' + b"1" * 5000 + b"}",
    "large": b" " * (5 << 20),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_left_as_it_is(data, folder):
    folder.mkdir()
    path = folder / "presets.json"
    path.write_bytes(data)
    for call in (
        ml.Chain.presets,
        lambda: ml.Chain.preset("mine"),
        lambda: CHAIN.save("mine", replace=True),
        lambda: ml.Chain.delete_preset("mine"),
    ):
        with pytest.raises(PresetError, match="presets.json could not be read") as error:
            call()
        assert str(path) in str(error.value)
        assert path.read_bytes() == data
    assert ml.Chain.preset("greedy") == ml.Chain([ml.Greedy()])


@pytest.mark.parametrize("chain", [5, None, [], {"stages": 5}, {"stages": [{"stage": "TopQ"}]}])
def test_a_chain_that_cannot_be_read_is_left_out_and_kept(chain, folder):
    CHAIN.save("good")
    path = folder / "presets.json"
    data = json.loads(path.read_text("utf-8"))
    data["chains"]["from tomorrow"] = chain
    path.write_text(json.dumps(data), "utf-8")
    with pytest.warns(UserWarning, match="the chain 'from tomorrow' is left out"):
        assert ml.Chain.presets().own == {"good"}
    with pytest.raises(PresetError, match="the chain 'from tomorrow' cannot be read"):
        ml.Chain.preset("from tomorrow")
    ml.Chain().save("other")
    assert json.loads(path.read_text("utf-8"))["chains"]["from tomorrow"] == chain


def test_a_built_in_name_in_the_file_does_not_hide_the_built_in_chain(folder):
    CHAIN.save("mine")
    path = folder / "presets.json"
    path.write_text(path.read_text("utf-8").replace('"mine"', '"greedy"'), "utf-8")
    assert ml.Chain.presets()["greedy"] == ml.Chain.preset("greedy") == ml.Chain([ml.Greedy()])


def test_a_folder_where_the_file_should_be_is_refused(folder):
    (folder / "presets.json").mkdir(parents=True)
    with pytest.raises(PresetError, match="presets.json could not be read"):
        CHAIN.save("mine")
    with pytest.raises(PresetError, match="presets.json could not be read"):
        ml.Chain.presets()


def test_a_file_where_the_folder_should_be_is_refused(folder):
    folder.write_text("")
    with pytest.raises(PresetError, match="presets.json could not be written"):
        CHAIN.save("mine")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_stays_a_link_and_one_to_itself_is_refused(folder, tmp_path):
    folder.mkdir()
    (folder / "presets.json").symlink_to(tmp_path / "dotfiles.json")
    CHAIN.save("mine")
    assert (folder / "presets.json").is_symlink()
    assert "mine" in (tmp_path / "dotfiles.json").read_text("utf-8")
    (folder / "presets.json").unlink()
    (folder / "presets.json").symlink_to(folder / "presets.json")
    for call in (ml.Chain.presets, lambda: CHAIN.save("mine")):
        with pytest.raises(PresetError):
            call()


def _save_some(folder, start):
    os.environ["MULLAMA_LAB_CONFIG"] = folder
    for i in range(start, start + 20):
        ml.Chain([ml.TopK(i + 1)]).save(f"chain {i}")


def test_two_processes_that_save_at_once_lose_nothing(folder):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_save_some, args=(str(folder), start)) for start in (0, 20, 40)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    found = ml.Chain.presets()
    assert len(found.own) == 60
    assert all(found[f"chain {i}"] == ml.Chain([ml.TopK(i + 1)]) for i in range(60))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["format", "chains", "stages", "stage", "k", "TopK", "words"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_the_file_holds_it_is_refused_or_read_and_never_changed(data, folder):
    folder.mkdir(exist_ok=True)
    path = folder / "presets.json"
    for content in (data, {"format": 1, "chains": {"x": data}}):
        text = json.dumps(content)
        path.write_text(text, "utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert set(ml.Chain.presets()) >= set(presets.BUILT_IN)
            except PresetError as error:
                assert str(path) in str(error)
        assert path.read_text("utf-8") == text


@pytest.mark.parametrize("name", ["\x1b[2J\u202e", "\ud800", "n" * 5000, "", "a\nb"])
def test_a_name_in_the_file_that_nobody_could_save_is_left_out_and_kept(name, folder):
    file = folder / "presets.json"
    folder.mkdir(exist_ok=True)
    chain = ml.Chain([ml.TopK(3)])
    file.write_text(json.dumps({"format": 1, "chains": {name: chain.to_dict()}}))
    with pytest.warns(UserWarning, match="left out") as said:
        listed = repr(ml.Chain.presets())
    with pytest.raises(ValueError, match="there is no chain 'x'") as unknown:
        ml.Chain.preset("x")
    for text in (listed, str(unknown.value), str(said[0].message)):
        assert visible(text) == text
        assert max(map(len, text.splitlines())) < 600
    assert file.exists()


def test_a_folder_of_nobody_is_an_error_of_its_own(monkeypatch):
    monkeypatch.setenv("MULLAMA_LAB_CONFIG", "~nobody-is-called-so/x")
    for call in (ml.Chain.presets, lambda: ml.Chain([ml.TopK(2)]).save("a")):
        with pytest.raises(PresetError, match="MULLAMA_LAB_CONFIG"):
            call()
