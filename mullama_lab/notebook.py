"""What IPython needs: how objects are displayed, and the `%%llama` magic.

Displays are registered by type name, so the engine imports no view and nothing is imported
before something is shown. `import mullama_lab` registers them where IPython runs;
`%load_ext mullama_lab` adds the magic.
"""

from __future__ import annotations

import ast
import contextlib
import keyword
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from mullama_lab import hub
from mullama_lab.engine.stages import Chain, Stage, Temperature
from mullama_lab.errors import MullamaError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from mullama_lab.engine.encoder import MultiVectorEncoder
    from mullama_lab.engine.loop.run import Run
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session import Session
    from mullama_lab.engine.stages.preview import Preview
    from mullama_lab.engine.trace import Trace

__all__ = ["LlamaMagics", "load_ipython_extension", "register_displays"]
__dir__ = __all__.copy  # what tab completion offers

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


def _text(word: str) -> str:
    """A word of the line; in quotes it is read as Python reads it, so that "\\n" is a new line."""
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        return str(ast.literal_eval(word))
    return word


@magics_class
class LlamaMagics(Magics):
    """`%%llama`: the cell is a prompt. `%llama --help` lists its options."""

    session: Session | None = None  # on the default model
    _model_session: Session | None = None  # on the Model that was named last
    _fetched: tuple[str, Model] | None = None  # by --model, and the name it was given there

    @magic_arguments()
    @argument("--chat", action="store_true", help="the cell is a message: the model answers it")
    @argument("--system", type=_text, metavar="TEXT", help="what the model is told first; a chat")
    @argument("--chain", metavar="NAME", help="a variable that holds a Chain, or a preset")
    @argument("--temp", type=float, help="temperature; 0 is greedy")
    @argument("--max-tokens", type=int, default=128, help="how many tokens at most")
    @argument(
        "--stop",
        type=_text,
        action="append",
        default=[],
        metavar="TEXT",
        help='text that ends the answer, as "\\n"; again for another',
    )
    @argument("--seed", type=int, help="the same seed gives the same text")
    @argument("--model", metavar="NAME", help="a variable that holds a Model, or a name or path")
    @argument("--session", metavar="NAME", help="a variable that holds a Session or Model")
    @argument("-o", "--output", metavar="NAME", help="name to give the Trace")
    @argument("--help", action="store_true", help="show these options and run nothing")
    @line_cell_magic
    def llama(self, line: str, cell: str | None = None) -> None:
        """Generate from the text of the cell and show it as it comes.

        Each cell stands for itself: a chat of many turns is `session.conversation()`.
        """
        try:
            args = parse_argstring(self.llama, line)
        except (SyntaxError, ValueError) as error:
            raise UsageError(f"%%llama {line}: {error}") from error
        if args.help:
            print(self._options().format_help())
            return
        if cell is None:
            raise UsageError("%%llama takes its prompt from the lines below it; see %llama --help")
        name = args.output
        if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
            raise UsageError(f"-o {name}: it must be a name that a variable can have")
        try:
            session = self._session(args)
            chain = _with_temperature(self._chain(args.chain), args.temp)
            prompt = _prompt(session.model, cell.rstrip("\n"), args)
            limits = {"max_tokens": args.max_tokens, "stop": args.stop, "seed": args.seed}
            self._show(session.start(prompt, chain, **limits), name)
        except (MullamaError, ValueError, TypeError) as error:
            raise UsageError(str(error)) from error

    def _show(self, run: Run, name: str | None) -> None:
        """Show a run until it is over; its Trace gets that name, however it ends."""
        from mullama_lab.widgets import TokenStrip

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

    @property
    def _names(self) -> dict[str, Any]:
        shell: Any = self.shell
        return shell.user_ns

    def _chain(self, name: str | None) -> Chain:
        if name is None:
            return Chain.default()
        found = self._names.get(name)
        return Chain.of(found) if isinstance(found, (Chain, Stage)) else Chain.preset(_text(name))

    def _session(self, args: Any) -> Session:
        from mullama_lab.engine.model import Model
        from mullama_lab.engine.session import Session

        if args.model is not None and args.session is not None:
            raise UsageError("give --model or --session: a session has its model")
        if args.session is not None:
            found = self._names.get(args.session)
            if isinstance(found, Session):
                return found
            if isinstance(found, Model):
                return self._session_on(found)
            raise UsageError(f"--session {args.session}: no Session or Model has that name")
        if args.model is not None:
            found = self._names.get(args.model)
            return self._session_on(found if isinstance(found, Model) else self._load(args.model))
        if self.session is None or self.session.closed:
            self.session = Model.load(hub.DEFAULT_MODEL).session()
        return self.session

    def _load(self, name: str) -> Model:
        """The model of a name or path; the last one is kept."""
        from mullama_lab.engine.model import Model

        if self._fetched is None or self._fetched[0] != name or self._fetched[1].closed:
            self._fetched = name, Model.load(_text(name))
        return self._fetched[1]

    def _session_on(self, model: Model) -> Session:
        """One session for all cells that name a model, so that a shared prefix is decoded once.

        Only the last model's is kept, as a session keeps its model in memory.
        """
        session = self._model_session
        if session is None or session.closed or session.model is not model:
            if session is not None:
                session.close()
            session = self._model_session = model.session()
        return session

    def complete(self, _shell: object, event: Any) -> list[str]:
        """What may follow on the line of a `%%llama`: options, or names for the one before."""
        words = event.text_until_cursor.split()
        before = words[-2] if event.symbol and len(words) > 1 else words[-1]
        if before not in ("--chain", "--model", "--session"):
            actions = self._options()._actions
            return [word for action in actions for word in action.option_strings]
        return self._names_for(before)

    def _options(self) -> Any:
        """The parser that `magic_arguments` left on the magic."""
        return self.llama.parser  # type: ignore[attr-defined]

    def _names_for(self, option: str) -> list[str]:
        from mullama_lab.engine.model import Model
        from mullama_lab.engine.session import Session

        kinds = {"--chain": (Chain, Stage), "--model": (Model,), "--session": (Session, Model)}
        mine = [name for name, value in self._names.items() if isinstance(value, kinds[option])]
        known = {"--chain": Chain.presets, "--model": hub.catalogue}.get(option, dict)
        return [name for name in (*mine, *known()) if not name.startswith("_")]


def _prompt(model: Model, text: str, args: Any) -> Any:
    """The text, or the tokens of a chat in which it is the message."""
    if not args.chat and args.system is None:
        return text
    told = [] if args.system is None else [{"role": "system", "content": args.system}]
    return model.render_chat([*told, {"role": "user", "content": text}]).tokens


def _with_temperature(chain: Chain, temperature: float | None) -> Chain:
    if temperature is None:
        return chain
    there = [isinstance(stage, Temperature) for stage in chain]
    if not any(there):
        return chain | Temperature(temperature)
    return Chain(Temperature(temperature) if isinstance(s, Temperature) else s for s in chain)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext mullama_lab`."""
    register_displays(shell)
    magics = LlamaMagics(shell)
    shell.register_magics(magics)
    shell.set_hook("complete_command", magics.complete, str_key="%%llama")
