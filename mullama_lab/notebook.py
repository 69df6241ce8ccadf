"""What IPython needs: how objects are displayed, and the `%%llama` magic.

Displays are registered by type name, so the engine imports no view and nothing is imported
before something is shown. `import mullama_lab` registers them where IPython runs;
`%load_ext mullama_lab` adds the magic.
"""

from __future__ import annotations

import contextlib
import keyword
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from mullama_lab import hub
from mullama_lab.engine.stages import Chain, Temperature
from mullama_lab.errors import MullamaError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from mullama_lab.engine.encoder import MultiVectorEncoder
    from mullama_lab.engine.loop.run import Run
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session import Session
    from mullama_lab.engine.stages.preview import Preview
    from mullama_lab.engine.trace import Trace

Bundle = Any  # what _repr_mimebundle_ returns


def register_displays(shell: InteractiveShell) -> None:
    """Teach IPython to show models, encoders, traces, runs and previews."""
    displays: Any = shell.display_formatter
    formatter = displays.mimebundle_formatter
    for module, name, show in (
        ("model.model", "Model", _show_model),
        ("trace.trace", "Trace", _show_trace),
        ("loop.run", "Run", _show_run),
        ("stages.preview", "Preview", _show_preview),
        ("encoder.encoder", "MultiVectorEncoder", _show_encoder),
    ):
        formatter.for_type_by_name(f"mullama_lab.engine.{module}", name, show)


def _show_model(model: Model, **_: Any) -> Bundle:
    from mullama_lab.widgets import model_card

    return model_card.bundle(model)


def _show_encoder(encoder: MultiVectorEncoder, **_: Any) -> Bundle:
    from mullama_lab.widgets import model_card

    return model_card.bundle(encoder)


def _show_trace(trace: Trace, **_: Any) -> Bundle:
    from mullama_lab.widgets import TokenStrip

    return TokenStrip(trace)._repr_mimebundle_()


def _show_run(run: Run, **_: Any) -> Bundle:
    from mullama_lab.widgets import TokenStrip

    return TokenStrip(run=run)._repr_mimebundle_()


def _show_preview(preview: Preview, **_: Any) -> Bundle:
    from mullama_lab.widgets import NextToken

    view = NextToken()
    view.show(preview)
    return view._repr_mimebundle_()


@magics_class
class LlamaMagics(Magics):
    """`%%llama`: the cell is a prompt."""

    session: Session | None = None  # on the default model
    _named_model_session: Session | None = None  # on the Model that --session named last

    @magic_arguments()
    @argument("--temp", type=float, default=None, help="temperature; 0 is greedy")
    @argument("--max-tokens", type=int, default=128, help="how many tokens at most")
    @argument("--seed", type=int, default=None, help="the same seed gives the same text")
    @argument("--session", default=None, help="name of a Session or Model to use")
    @argument("-o", "--output", default=None, help="name to give the Trace")
    @cell_magic
    def llama(self, line: str, cell: str) -> None:
        """Generate from the text of the cell and show it as it comes."""
        from mullama_lab.widgets import TokenStrip

        args = parse_argstring(self.llama, line)
        name = args.output
        if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
            raise UsageError(f"-o {name}: it must be a name that a variable can have")
        try:
            chain = _with_temperature(Chain.default(), args.temp)
            run = self._session(args.session).start(
                cell.rstrip("\n"), chain, max_tokens=args.max_tokens, seed=args.seed
            )
            try:
                strip = TokenStrip(run=run)
                shown = display(strip, display_id=True)
                trace = run.wait()
            finally:
                run.stop()
                with contextlib.suppress(MullamaError):
                    run.wait()
                if name:
                    self._names[name] = run.trace
            strip.trace = trace
            if shown is not None:
                shown.update(strip)
        except (MullamaError, ValueError, TypeError) as error:
            raise UsageError(str(error)) from error

    @property
    def _names(self) -> dict[str, Any]:
        shell: Any = self.shell
        return shell.user_ns

    def _session(self, name: str | None) -> Session:
        from mullama_lab.engine.model import Model
        from mullama_lab.engine.session import Session

        if name is not None:
            found = self._names.get(name)
            if isinstance(found, Session):
                return found
            if isinstance(found, Model):
                return self._session_on(found)
            raise UsageError(f"--session {name}: there is no Session or Model of that name")
        if self.session is None or self.session.closed:
            self.session = Model.load(hub.DEFAULT_MODEL).session()
        return self.session

    def _session_on(self, model: Model) -> Session:
        """One session for all cells that name a model, so that a shared prefix is decoded once.

        Only the last model's is kept, as a session keeps its model in memory.
        """
        session = self._named_model_session
        if session is None or session.closed or session.model is not model:
            if session is not None:
                session.close()
            session = self._named_model_session = model.session()
        return session


def _with_temperature(chain: Chain, temperature: float | None) -> Chain:
    if temperature is None:
        return chain
    return Chain(Temperature(temperature) if isinstance(s, Temperature) else s for s in chain)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext mullama_lab`."""
    register_displays(shell)
    shell.register_magics(LlamaMagics)
