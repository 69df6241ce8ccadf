"""Files on a person's disk: which one a path means, whether it was altered, how it is replaced."""

from __future__ import annotations
