"""Labs: benches that join a Session, studies and widgets for one activity."""

from __future__ import annotations

from mullama_lab.labs.sampler_lab import SamplerLab

__all__ = ["SamplerLab"]
