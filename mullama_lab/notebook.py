"""What IPython needs: how objects are displayed, and the magics `%%llama` and `%%monitor`.

Displays are registered by type name, so the engine imports no view and nothing is imported
before something is shown. `import mullama_lab` registers them where IPython runs;
`%load_ext mullama_lab` adds the magics.
"""

from __future__ import annotations

import ast
import contextlib
import keyword
from types import CodeType
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    output_can_be_silenced,
)
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

__all__ = ["LlamaMagics", "MonitorMagics", "load_ipython_extension", "register_displays"]
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
        args = _parsed(self.llama, line)
        if args.help:
            print(_parser(self.llama).format_help())
            return
        if cell is None:
            raise UsageError("%%llama takes its prompt from the lines below it; see %llama --help")
        name = args.output
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
        before = _word_before(event)
        if before not in ("--chain", "--model", "--session"):
            return _words_of(self.llama)
        return self._names_for(before)

    def _names_for(self, option: str) -> list[str]:
        from mullama_lab.engine.model import Model
        from mullama_lab.engine.session import Session

        kinds = {"--chain": (Chain, Stage), "--model": (Model,), "--session": (Session, Model)}
        mine = [name for name, value in self._names.items() if isinstance(value, kinds[option])]
        known = {"--chain": Chain.presets, "--model": hub.catalogue}.get(option, dict)
        return [name for name in (*mine, *known()) if not name.startswith("_")]


@magics_class
class MonitorMagics(Magics):
    """`%%monitor`: what the cell runs is monitored. `%monitor --help` lists its options."""

    @magic_arguments()
    @argument("--interval", type=float, default=0.5, help="seconds between readings; 0.5")
    @argument("--gpu", action="store_true", help="read NVIDIA's GPUs too")
    @argument(
        "--session", metavar="NAME", help="a variable with a Session or Model; else every one"
    )
    @argument("-o", "--output", metavar="NAME", help="name to give the Monitor")
    @argument("--help", action="store_true", help="show these options and run nothing")
    @output_can_be_silenced
    @line_cell_magic
    def monitor(self, line: str, cell: str | None = None) -> Any:
        """Run the cell and show what it took: tokens a second, memory, cores, cache and queue.

        It is shown too when the cell fails or is interrupted. `await` cannot stand in the cell.
        """
        from mullama_lab.studies.monitor import Monitor

        args = _parsed(self.monitor, line)
        if args.help:
            print(_parser(self.monitor).format_help())
            return None
        if cell is None:
            raise UsageError("%%monitor runs the lines below it; see %monitor --help")
        shell: Any = self.shell
        try:
            on = self._named(args.session)
            monitor = Monitor(on, interval=args.interval, gpu=args.gpu)
        except (MullamaError, ValueError, TypeError) as error:
            raise UsageError(str(error)) from error
        statements, last = _compiled(shell, cell)
        if args.output:
            shell.user_ns[args.output] = monitor
        try:
            with monitor:
                exec(statements, shell.user_ns)
                return None if last is None else eval(last, shell.user_ns)
        finally:
            display(monitor)

    def _named(self, name: str | None) -> Session | Model | None:
        if name is None:
            return None
        found = self._sessions_and_models().get(name)
        if found is None:
            raise UsageError(f"--session {name}: no Session or Model has that name")
        return found

    def _sessions_and_models(self) -> dict[str, Any]:
        from mullama_lab.engine.model import Model
        from mullama_lab.engine.session import Session

        shell: Any = self.shell
        return {name: x for name, x in shell.user_ns.items() if isinstance(x, (Session, Model))}

    def complete(self, _shell: object, event: Any) -> list[str]:
        """What may follow on the line of a `%%monitor`."""
        if _word_before(event) != "--session":
            return _words_of(self.monitor)
        return [name for name in self._sessions_and_models() if not name.startswith("_")]


def _compiled(shell: Any, cell: str) -> tuple[CodeType, CodeType | None]:
    """The statements of a cell, and the expression at its end if there is one."""
    source = shell.transform_cell(cell)
    if shell.should_run_async(cell, transformed_cell=source):
        raise UsageError(
            "`await` cannot stand in the cell of a magic. Write `with Monitor() as monitor:` "
            "around it, after `from mullama_lab.studies.monitor import Monitor`."
        )
    number = len(shell.history_manager.input_hist_parsed) - 1  # that of the cell with the magic
    name = shell.compile.cache(source, number, raw_code=cell)  # for tracebacks
    body = shell.transform_ast(shell.compile.ast_parse(source, name)).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    statements = shell.compile(ast.Module(body, []), name, "exec")
    return statements, last and shell.compile(ast.Expression(last.value), name, "eval")


def _parser(magic: Any) -> Any:
    """The parser that `magic_arguments` left on a magic."""
    return magic.parser


def _parsed(magic: Any, line: str) -> Any:
    """The options on the line of a cell magic."""
    try:
        args = parse_argstring(magic, line)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"%%{magic.__name__} {line}: {error}") from error
    name = args.output
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"-o {name}: it must be a name that a variable can have")
    return args


def _words_of(magic: Any) -> list[str]:
    """The options of a magic."""
    return [word for action in _parser(magic)._actions for word in action.option_strings]


def _word_before(event: Any) -> str:
    """The word before the one that is completed."""
    words = event.text_until_cursor.split()
    return words[-2] if event.symbol and len(words) > 1 else words[-1]


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
    llama, monitor = LlamaMagics(shell), MonitorMagics(shell)
    shell.register_magics(llama, monitor)
    shell.set_hook("complete_command", llama.complete, str_key="%%llama")
    shell.set_hook("complete_command", monitor.complete, str_key="%%monitor")
