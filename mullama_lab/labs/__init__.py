"""Labs: benches that join a Session, studies and widgets for one activity."""

from __future__ import annotations

from mullama_lab.labs.branch_lab import BranchLab
from mullama_lab.labs.retrieval_lab import RetrievalLab
from mullama_lab.labs.sampler_lab import SamplerLab

__all__ = ["BranchLab", "RetrievalLab", "SamplerLab"]


def __dir__() -> list[str]:
    return __all__
