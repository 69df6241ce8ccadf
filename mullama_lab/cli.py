"""The command `mullama-lab`: open the lab, and look after the models.

    mullama-lab [JUPYTERLAB OPTIONS]    fetch the default model, open a copy of the tour in
                                        JupyterLab, or the notebook or folder that is named
    mullama-lab models                  what the catalogue has, and what is on this disk
    mullama-lab models fetch NAME       bring a model into the cache
    mullama-lab models remove NAME      delete it from the cache
    mullama-lab selfbench               measure speed beside the peers

Whatever `mullama-lab` itself does not know goes to JupyterLab as it is.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mullama_lab import hub
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import visible

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


@main.command(short_help="Measure the workbench beside its peers, in one run.")
@click.option("--model", "names", multiple=True, help="A catalogue name; again for another.")
@click.option("--browser/--no-browser", default=True, help="Measure the slider in JupyterLab too.")
def selfbench(names: Sequence[str], browser: bool) -> None:
    """Measure what the workbench costs beside llama.cpp alone and llama-cpp-python.

    Run it on a machine that does nothing else. It takes about five minutes.
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
