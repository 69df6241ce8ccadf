"""SamplerLab: turn the samplers of a chain and see what that does to the next token."""

from __future__ import annotations

from mullama_lab.engine.trace import Trace
from mullama_lab.errors import MullamaError
from mullama_lab.labs.workbench import Workbench
from mullama_lab.widgets._session_code import session_code
from mullama_lab.widgets._trace_code import settings_code, settings_from

__all__ = ["SamplerLab"]
__dir__ = __all__.copy  # what tab completion offers


class SamplerLab(Workbench):
    """The workbench with the samplers open: prompt, chain, next-token distribution, text.

        lab = SamplerLab(model, prompt="Once upon a time")
        lab.set("Temperature", t=1.2)
        trace = lab.run()

    It takes what `Workbench` takes, and does what that does.
    """

    def to_code(self) -> str:
        """Python that does the same without a browser.

        What Run would do now; or, where it is the run that is shown and its chain was changed on
        the way to the one there is now, that run.
        """
        shown = self.trace
        chain = self.chain_code()
        if shown is not None and self._is_of_now(shown):
            chain = settings_code(settings_from(shown, 0), self.session.steering)
        return (
            "import mullama_lab as ml\n\n"
            f"{session_code(self.session)}\n"
            f"chain = {chain}\n{self.panel.to_code()}"
        )

    def _is_of_now(self, trace: Trace) -> bool:
        """Whether a trace is what Run does now, but for changes on the way."""
        try:
            prompt = self.prompt_tokens()
        except (MullamaError, ValueError):
            return False
        same = trace.seed == self.panel.seed and trace.schedule.last == self.chain
        same = same and trace.settings[-1][1].steering == self.session.steering
        return same and not trace.n_copied and trace.prompt_tokens.tolist() == prompt
