"""What holds for the browser half as a whole: its files, their imports, their width and length."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import mullama_lab
from mullama_lab.widgets import _front_end
from mullama_lab.widgets._view import LIVE_OR_STILL, View

ROOT = Path(__file__).resolve().parents[1]
WIDGETS = ROOT / "widgets"
EXTENSION = ROOT / "widgets/jupyter/labextensions/mullama-lab/static"


def test_the_browser_half_passes_its_own_tests(node):
    tests = sorted(str(path) for path in (WIDGETS / "dev").glob("*.test.js"))
    assert tests
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def lint(*paths: Path) -> str:
    """What oxlint has against scripts; nothing if they are clean."""
    rules = WIDGETS / "dev/oxlint.json"
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "oxlint", "-c", rules, "-f", "unix", *paths],
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_name_in_a_script_is_known_and_every_import_is_there(tmp_path):
    assert not lint(WIDGETS)
    (tmp_path / "had.js").write_text("export const had = 1;\n")
    bad = tmp_path / "bad.js"
    bad.write_text('import { lost } from "./had.js";\nexport const one = lost + forgotten;\n')
    assert "lost" in lint(tmp_path) and "'forgotten' is not defined" in lint(tmp_path)


def scripts() -> dict[str, Path]:
    """The scripts of the browser half by their path below `widgets`, without the suffix."""
    paths = [*WIDGETS.glob("*.js"), *WIDGETS.glob("shared/*.js")]
    return {path.relative_to(WIDGETS).with_suffix("").as_posix(): path for path in sorted(paths)}


def views() -> dict[str, type]:
    """The widget classes by the stem of their two halves."""
    kinds = [getattr(mullama_lab.widgets, name) for name in mullama_lab.widgets.__all__]
    return {kind.__module__.rpartition(".")[2]: kind for kind in kinds if hasattr(kind, "_esm")}


def all_scripts() -> dict[str, Path]:
    """The scripts of the views, and of the JupyterLab extension."""
    return {**scripts(), **{path.stem: path for path in EXTENSION.glob("*.js")}}


def home_of(name: str) -> str:
    """The view that a script is part of, or "shared"."""
    homes = ["shared", *views()]
    found = [home for home in homes if re.match(rf"{home}(/|_|$)", name)]
    assert len(found) == 1, f"widgets/{name}.js is not shared and begins with no view's name"
    return found[0]


def test_each_widget_has_two_halves_of_one_stem():
    assert set(views()) <= set(scripts())
    for name, script in scripts().items():
        text = script.read_text(encoding="utf-8")
        assert ("export default { render };" in text) == (home_of(name) == name), name
    sheets = {path.relative_to(WIDGETS).as_posix() for path in WIDGETS.rglob("*.css")}
    assert {f"{stem}.css" for stem in views()} <= sheets
    assert sheets <= {"shared/theme.css", *(f"{name}.css" for name in scripts())}


def test_both_halves_name_the_same_traits():
    inherited = set(View.class_trait_names())
    for stem, kind in views().items():
        parts = [path for name, path in scripts().items() if home_of(name) == stem]
        script = "".join(path.read_text(encoding="utf-8") for path in parts)
        synced = set(kind.class_trait_names(sync=True))
        asked = set(re.findall(r"""\b(?:get|model\.set)\(\s*["'](\w+)["']""", script))
        assert asked <= synced, f"{stem}.js asks for {asked - synced}"
        named = set(re.findall(r"""["'](?:change:)?(\w+)["']""", script))
        assert synced - inherited <= named, f"{stem}.js never names {synced - inherited - named}"


def test_the_jupyterlab_extension_knows_the_outputs_by_the_name_that_python_gives_them():
    assert f'"{LIVE_OR_STILL}"' in (EXTENSION / "saved_views.js").read_text(encoding="utf-8")


IMPORT = re.compile(r"""^(?:(?:import|export)\s[^;'"=]*?\bfrom|import)\s*["']([^"']+)["']""", re.M)


def test_a_script_imports_parts_of_its_own_view_and_shared_ones():
    for name, script in scripts().items():
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"\bimport\(", text), name
        for imported in IMPORT.findall(text):
            target = (script.parent / imported).relative_to(WIDGETS)
            assert home_of(target.with_suffix("").as_posix()) in ("shared", home_of(name)), name
            assert target.with_suffix("").as_posix() not in views(), name


def test_what_is_shared_is_used_by_more_than_one_view():
    """Or it belongs beside the one view that uses it."""
    users = {stem: set(_front_end._imported(stem)) for stem in views()}
    for name in scripts():
        if home_of(name) == "shared":
            assert sum(name in parts for parts in users.values()) > 1, name


def test_a_look_of_six_declarations_and_more_stands_in_one_sheet():
    homes: dict[frozenset[str], str] = {}
    for path in WIDGETS.rglob("*.css"):
        sheet = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for selector, block in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet):
            look = frozenset(line.strip() for line in block.split(";") if line.strip())
            here = f"{path.name}: {selector.strip()}"
            assert len(look) < 6 or homes.setdefault(look, here) == here


def test_the_browser_half_names_no_address():
    for name, script in all_scripts().items():
        addresses = set(re.findall(r"""https?://[^\s"'`)]+""", script.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
    for style in WIDGETS.rglob("*.css"):
        assert not re.search(r"@import|url\((?!\s*['\"]?data:)", style.read_text(encoding="utf-8"))


def test_the_browser_half_writes_text_never_markup():
    for name, script in all_scripts().items():
        text = script.read_text(encoding="utf-8")
        markup = r"\.(innerHTML|outerHTML|insertAdjacentHTML)\b|\beval\("
        assert not re.search(markup, text), name


def test_a_line_of_the_browser_half_is_at_most_120_wide():
    for suffix in ("js", "css", "html"):
        for path in [*WIDGETS.rglob(f"*.{suffix}"), *EXTENSION.glob(f"*.{suffix}")]:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert len(line) <= 120, f"{path.relative_to(ROOT)}:{number} is {len(line)} wide"


def test_no_template_of_a_script_stands_in_another():
    """What makes a module smaller would take the inner one for code, and its spaces for nothing."""
    for name, script in all_scripts().items():
        for number, line in enumerate(script.read_text(encoding="utf-8").splitlines(), 1):
            assert not re.search(r"\$\{[^}`]*`", line), f"{name}.js:{number}"


def test_a_script_has_at_most_250_lines():
    for name, script in all_scripts().items():
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 250, f"{name}.js"


FUNCTION = re.compile(
    r"^(?! *(?:if|for|while|switch|catch|return)\b)"
    r"(?:.*\bfunction\b.*\{| *(?:get |async )?\w+\(.*\) \{|.*=> [({[]*)$"
)


def own_lines(text: str) -> dict[str, int]:
    """Lines of each function, by its first, without the functions inside it; by indentation."""
    counted: dict[str, int] = {}
    around: list[tuple[str, int]] = []  # functions that a line is in, with their indentation
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        if FUNCTION.match(line):
            while around and around[-1][1] >= indent:
                around.pop()
            around.append((line, indent))
        if around:
            counted[around[-1][0]] = counted.get(around[-1][0], 0) + 1
        while around and indent <= around[-1][1] and not FUNCTION.match(line):
            around.pop()  # the line that closes it was its last
    return counted


def test_a_function_of_the_browser_half_has_at_most_40_lines_of_its_own():
    for name, script in all_scripts().items():
        for first, lines in own_lines(script.read_text(encoding="utf-8")).items():
            assert lines <= 40, f"{name}.js: {first.strip()!r} has {lines} lines of its own"
