"""The command `mullama-lab`: open the lab, and look after the models.

    mullama-lab [JUPYTERLAB OPTIONS]    fetch the default model, open a copy of the tour in
                                        JupyterLab, or the notebook or folder that is named
    mullama-lab models                  what the catalogue has, and what is on this disk
    mullama-lab models fetch NAME       bring a model into the cache
    mullama-lab models remove NAME      delete it from the cache
    mullama-lab bench MODEL...          how fast a model is here, in llama-bench's words
    mullama-lab selfbench               measure the workbench itself, beside its peers

Whatever `mullama-lab` itself does not know goes to JupyterLab as it is.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mullama_lab import hub
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import visible

if TYPE_CHECKING:
    from mullama_lab.studies.bench import BenchResult, Comparison, History

TOUR = "00_tour.ipynb"
MEASURED = (hub.DEFAULT_MODEL, "gemma3-270m")  # by `selfbench`, unless told otherwise

_PACKAGE = Path(__file__).resolve().parent
_COPIES = "mullama_lab_notebooks"
_JUPYTERLAB_OPTIONS = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


def _is_for_jupyterlab(argument: str) -> bool:
    return argument.startswith("-") or argument.endswith(".ipynb") or Path(argument).exists()


class _LabByDefault(click.Group):
    """A group whose options, and paths, belong to `lab` when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {"--help", "--version", *self.commands}
        if not args or (args[0] not in known and _is_for_jupyterlab(args[0])):
            args = ["lab", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_LabByDefault)
@click.version_option(package_name="mullama-lab")
def main() -> None:
    """See and turn what decides a language model's next token.

    Without a command this opens JupyterLab on the tour, after fetching the default
    model if it is missing. Options such as --no-browser, --port 8890, --ip and
    --allow-root are JupyterLab's and are passed on to it.
    """


@main.command(context_settings=_JUPYTERLAB_OPTIONS, short_help="Open JupyterLab on the tour.")
@click.argument("jupyterlab_options", nargs=-1, type=click.UNPROCESSED)
def lab(jupyterlab_options: Sequence[str]) -> None:
    """Open JupyterLab on the tour. Every option is JupyterLab's (`jupyter lab --help`).

    The tour is a copy, in mullama_lab_notebooks in the working folder or the one that
    --notebook-dir names. A notebook that is named is opened in its place.
    """
    try:
        from jupyterlab.labapp import LabApp
    except ImportError:
        raise click.ClickException(
            'JupyterLab is not installed. Run: pip install "mullama-lab[lab]"'
        ) from None
    _fetch_default_model()
    try:
        LabApp.launch_instance(argv=[*_on_the_tour(jupyterlab_options), *jupyterlab_options])
    except SystemExit as stop:
        if stop.code and _is_root() and not _allows_root(jupyterlab_options):
            click.echo(
                "JupyterLab does not start for root unless told to: mullama-lab --allow-root",
                err=True,
            )
        raise


@main.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models that have a name; fetch and remove them."""
    if ctx.invoked_subcommand is None:
        for line in _table():
            click.echo(line)


@models.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Bring the model NAME into the cache."""
    try:
        click.echo(os.fsencode(hub.fetch(name)))  # whatever its name has in it
    except MullamaError as error:
        raise click.ClickException(str(error)) from error


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete the model NAME from the cache."""
    try:
        was_there = hub.remove(name)
    except MullamaError as error:
        raise click.ClickException(str(error)) from error
    if was_there:
        click.echo(f"{name} removed: {_megabytes(hub.catalogue()[name].size_bytes)} freed")
    else:
        click.echo(f"{name} was not cached")


def _listed(kind: Callable[[str], Any], default: str | None, between: str = ",") -> dict[str, Any]:
    """An option of several values with commas between them."""

    def read(_: click.Context, __: click.Parameter, given: str | None) -> list[Any] | None:
        try:
            return (
                None if given is None else [kind(one.strip()) for one in re.split(between, given)]
            )
        except ValueError:
            raise click.BadParameter(f"{given!r} is no list of whole numbers.") from None

    return {"callback": read, "metavar": "LIST", "default": default, "show_default": True}


def _kv_type(text: str) -> str | tuple[str, ...]:
    return tuple(text.split("/")) if "/" in text else text


class _Failed(click.ClickException):
    exit_code = 2  # 1 says that something is slower


@main.command(short_help="Measure how fast a model is, in llama-bench's words.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--tests",
    **_listed(str, "pp512,tg128", r",(?!\d)"),  # pg512,128 is one
    help="Also pp512+tg128, tg128@d4096.",
)
@click.option("-t", "--threads", **_listed(int, None), help="One for each core, unless told.")
@click.option("-b", "--batch", **_listed(int, "2048"), help="Tokens of one decode.")
@click.option("-ub", "--ubatch", **_listed(int, "512"), help="Tokens computed at once.")
@click.option("-d", "--depth", **_listed(int, "0"), help="Tokens in the cache before.")
@click.option(
    "--kv-type", **_listed(_kv_type, "f16"), help="f16, q8_0, ...; q8_0/f16 is keys/values."
)
@click.option("-fa", "--flash-attention", **_listed(str, "auto"), help="auto, on or off.")
@click.option("--sequences", **_listed(int, "1"), help="Texts decoded together.")
@click.option("-r", "--repeats", default=5, show_default=True, help="Rounds; rows take turns.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["md", "csv", "json", "jsonl"]),
    default="md",
    show_default=True,
    help="json is what llama-bench writes.",
)
@click.option("--history", type=click.Path(), help="A file to append the run to.")
@click.option("--compare", is_flag=True, help="With two models, or with the history's last run.")
@click.pass_context
def bench(
    ctx: click.Context, models: Sequence[str], output: str, history: str | None, compare: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Measure how many tokens a second models process and generate on this machine.

    Every combination of the lists is a row. A model is a name of the catalogue, a file, or
    hf:owner/repo/file.gguf. Run it on a machine that does nothing else.

    With --compare the exit code is 0 where nothing is slower, 1 where something is, and 2 where
    that cannot be said of every row: there is no run before it on this machine with these
    settings, or too few repeats. Every other failure is 2 too.
    """
    from mullama_lab.studies import bench as study

    if compare and history is None and len(models) != 2:
        raise click.UsageError("--compare needs two models, or --history FILE.")
    found, stopped, failed = None, False, None
    try:
        runs = None if history is None else study.History(history)
        try:
            result = study.bench(models, **settings)
        except study.BenchStopped as stop:
            result, stopped = stop.result, True
        except study.BenchFailed as error:
            result, failed = error.result, error
        if result.rows:
            try:
                if runs is not None:
                    runs.append(result)
            finally:  # whatever fails, what was measured is in one of the two
                _write(result, output)
            if compare and result.complete:
                found = _compared(result, len(models), runs)
                click.echo(f"\n{found}", err=output != "md")
    except OSError as error:  # a full disk, or a pipe that nobody reads
        sys.stdout = io.StringIO()  # or it would be tried again at the end
        reason = visible(error.strerror or str(error))
        raise _Failed(f"What was measured could not be written: {reason}.") from error
    except (MullamaError, ValueError, ArithmeticError, MemoryError) as error:
        raise _Failed(visible(str(error) or "There is not enough memory.")) from error
    except KeyboardInterrupt:  # before anything was measured, or behind it
        stopped = True
    if failed is not None:
        raise _Failed(visible(f"It failed in the middle: {failed.why}")) from failed
    ctx.exit(130 if stopped else found.exit_code if found else 0)


def _write(result: BenchResult, output: str) -> None:
    forms = {"md": result.to_markdown, "csv": result.to_csv}
    forms |= {"json": result.to_json, "jsonl": result.to_jsonl}
    click.echo(forms[output](), nl=output == "md")


def _compared(result: BenchResult, n_models: int, runs: History | None) -> Comparison:
    """The second model with the first; a single one, or more, with the last run like this."""
    from mullama_lab.studies import bench as study

    if n_models == 2:
        names = list(dict.fromkeys(row.model_filename for row in result.rows))
        if len(names) == 1:
            return study.Comparison(refusal=f"both models are {names[0]}")
        return study.compare(*(result.where(model_filename=name) for name in names))
    before = None if runs is None else runs.baseline(result)
    if before is None:
        refusal = "the history has no run of this model with these settings on this machine"
        return study.Comparison(refusal=refusal)
    return study.compare(before, result)


@main.command(short_help="Measure the workbench beside its peers, in one run.")
@click.option("--model", "names", multiple=True, help="A catalogue name; again for another.")
@click.option("--browser/--no-browser", default=True, help="Measure the slider in JupyterLab too.")
def selfbench(names: Sequence[str], browser: bool) -> None:
    """Measure what the workbench costs beside llama.cpp alone and llama-cpp-python.

    Run it on a machine that does nothing else. It takes about seven minutes.
    """
    from mullama_lab.selfbench import every_row
    from mullama_lab.selfbench.table import print_table

    chromium = shutil.which("chromium") if browser else None
    if chromium and importlib.util.find_spec("playwright") is None:
        click.echo('The slider is left out. It needs: pip install "mullama-lab[test]"', err=True)
        chromium = None
    try:
        print_table(every_row(names or MEASURED, chromium))
    except MullamaError as error:
        raise click.ClickException(str(error)) from error


def _on_the_tour(options: Sequence[str]) -> list[str]:
    """What makes JupyterLab open on the tour, if its options name no notebook or page.

    The folder that it shows is the one that they name, or the working folder.
    """
    from jupyter_server import serverapp
    from jupyterlab.labapp import LabApp
    from traitlets.config.loader import KVArgParseConfigLoader

    loader = KVArgParseConfigLoader(
        list(options),
        aliases={**serverapp.aliases, **LabApp.aliases},
        flags={**serverapp.flags, **LabApp.flags},
        classes=[serverapp.ServerApp, LabApp],
    )
    given = loader.load_config()
    paths = [Path(path) for path in loader.extra_args]
    server = given.ServerApp
    if any(path.is_file() for path in paths) or "file_to_run" in server:
        return []
    if "default_url" in given.LabApp or "default_url" in server:
        return []
    named = next(iter(paths), None) or server.get("root_dir") or server.get("notebook_dir")
    folder = Path.cwd() if named is None else Path(str(named)).expanduser()
    if not folder.is_dir():
        return []  # JupyterLab says so
    copies = copied_notebooks(folder)
    here = [] if named else [f"--ServerApp.root_dir={folder}"]
    return [*here, f"--LabApp.default_url=/lab/tree/{copies.name}/{TOUR}"]


def copied_notebooks(folder: Path) -> Path:
    """Put the tutorials into `mullama_lab_notebooks` in a folder; what is there already stays.

    They come from the checkout, or from the wheel, which carries them.
    """
    checkout, wheel = _PACKAGE.parent / "notebooks", _PACKAGE / "_notebooks"
    source = checkout if (checkout / TOUR).is_file() else wheel
    copies = folder / _COPIES
    try:
        for path in [*source.glob("*.ipynb"), *source.glob("data/*")]:
            copy = copies / path.relative_to(source)
            if path.is_file() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    except OSError as error:
        raise click.ClickException(
            visible(f"The tutorials cannot be copied to {copies}: {error.strerror}. ")
            + "Run mullama-lab in a folder of yours, or name one: mullama-lab --notebook-dir=FOLDER"
        ) from error
    click.echo(visible(f"The tutorials are in {copies}. What you change there stays as it is."))
    return copies


def _fetch_default_model() -> None:
    try:
        if not hub.is_cached(hub.DEFAULT_MODEL):
            hub.fetch(hub.DEFAULT_MODEL)
            path = hub.cached_path(hub.DEFAULT_MODEL)
            click.echo(visible(f"{hub.DEFAULT_MODEL} is in {path}"))
    except MullamaError as error:
        click.echo(f"Opening the lab without {hub.DEFAULT_MODEL}: {error}", err=True)


def _table() -> list[str]:
    rows = [("name", "size", "cached", "licence", "source")]
    for entry in hub.catalogue().values():
        cached = "yes" if hub.is_cached(entry.name) else "no"
        size = _megabytes(entry.size_bytes)
        rows.append((entry.name, size, cached, entry.licence, entry.source))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [visible(line) for line in (*lines, f"cache: {hub.cache_dir()}")]


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB"


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _allows_root(options: Sequence[str]) -> bool:
    return any("allow-root" in option or "allow_root" in option for option in options)
