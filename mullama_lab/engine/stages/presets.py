"""Chains by name: a few that everybody has, and those that a person saves.

The saved ones are one JSON file in the person's configuration folder. It is read each time it is
asked, so that two notebooks see what each other save, and replaced whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mullama_lab.engine import kept
from mullama_lab.engine.options import flag
from mullama_lab.engine.stages.cutting import XTC, Greedy, MinP, TopK, TopNSigma, TopP, Typical
from mullama_lab.engine.stages.learning import MirostatV2
from mullama_lab.engine.stages.penalties import DRY, Penalties
from mullama_lab.engine.stages.shaping import Temperature
from mullama_lab.engine.stages.stage import Stage
from mullama_lab.errors import PresetError
from mullama_lab.files.replacing import must_not_be_a_device, replacing
from mullama_lab.glyphs import brief
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.stages.chain import Chain

LARGEST_FILE = 4 << 20  # bytes
FORMAT = 1
KIND = "chain"
PATIENCE = 10.0  # seconds that another process may take to save

DEFAULT = (  # llama.cpp, common/common.h
    Penalties(), DRY(), TopNSigma(0.0), TopK(40), Typical(1.0), TopP(0.95), MinP(0.05),
    XTC(0.0, 0.1), Temperature(0.8),
)  # fmt: skip
BUILT_IN: dict[str, tuple[Stage, ...]] = {
    "default": DEFAULT,
    "greedy": (Greedy(),),  # the likeliest token each time
    "plain": (),  # the model's own distribution
    "nucleus": (TopP(0.95),),  # Holtzman et al. 2020, arXiv:1904.09751
    # Nguyen et al. 2024, arXiv:2407.01082: min-p of 0.05 to 0.1 at temperatures above 1
    "creative-min-p": (MinP(0.1), Temperature(1.5)),
    "mirostat": (MirostatV2(),),  # llama.cpp's values of `--mirostat 2`
}


class Presets(Mapping[str, "Chain"]):
    """Chains by name, the built-in ones first; it prints as a list of them."""

    def __init__(self, own: Mapping[str, Chain], chain_type: type[Chain]) -> None:
        self.own = frozenset(own)
        built_in = {name: chain_type(stages) for name, stages in BUILT_IN.items()}
        self._chains = {**built_in, **{name: own[name] for name in sorted(own)}}

    def __getitem__(self, name: str) -> Chain:
        return self._chains[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._chains)

    def __len__(self) -> int:
        return len(self._chains)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        width = max(map(len, self))
        lines = []
        for name, chain in self.items():
            code = repr(chain)
            code = code if len(code) <= 100 else code[:99] + "…"
            lines.append(f"{name:{width}}  {code}" + ("  (yours)" if name in self.own else ""))
        return "\n".join(lines)


def preset_file() -> Path:
    """The file that saved chains are in.

    It is in the platform's configuration folder, or in MULLAMA_LAB_CONFIG if that is set.

    Raises:
        PresetError: MULLAMA_LAB_CONFIG names a place that cannot be.
    """
    return kept.folder() / "presets.json"


def presets(chain_type: type[Chain]) -> Presets:
    """See `Chain.presets`."""
    path = preset_file()
    own = {}
    for name, data in _read(path).items():
        try:
            kept.checked_name(KIND, name)
            own[name] = chain_type.from_dict(data)
        except (ValueError, TypeError) as error:
            warn(f"{path}: the chain {brief(name)} is left out: {error}")
    return Presets({name: own[name] for name in own if name not in BUILT_IN}, chain_type)


def chain_named(name: str, chain_type: type[Chain]) -> Chain:
    """See `Chain.preset`."""
    name = kept.checked_name(KIND, name)
    if name in BUILT_IN:
        return chain_type(BUILT_IN[name])
    path = preset_file()
    saved = _read(path)
    if name not in saved:
        raise _unknown(name, saved)
    try:
        return chain_type.from_dict(saved[name])
    except (ValueError, TypeError) as error:
        raise PresetError(f"{path}: the chain {name!r} cannot be read: {error}") from error


def save(chain: Chain, name: str, *, replace: bool = False) -> None:
    """See `Chain.save`."""
    name, data = kept.checked_name(KIND, name), chain.to_dict()
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is the name of a built-in chain. Save it by another name.")
    with _changing() as saved:
        if name in saved and not flag("replace", replace):
            raise ValueError(
                f"there is a chain {name!r} already. Save it by another name, or replace that one "
                f"with chain.save({name!r}, replace=True)."
            )
        saved[name] = data


def delete(name: str) -> None:
    """See `Chain.delete_preset`."""
    name = kept.checked_name(KIND, name)
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is a built-in chain, which cannot be deleted.")
    with _changing() as saved:
        if name not in saved:
            raise _unknown(name, saved)
        del saved[name]


def _unknown(name: str, saved: Mapping[str, Any]) -> ValueError:
    return kept.unknown(KIND, name, [*BUILT_IN, *sorted(filter(kept.is_name, saved))])


def _read(path: Path) -> dict[str, Any]:
    """What each saved chain is described by; PresetError if the file is not one of ours."""
    try:
        must_not_be_a_device(path)
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"it is no file of chains in format {FORMAT}")
        chains = data.get("chains")
        if not isinstance(chains, dict):
            raise ValueError("it holds no chains by name")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise PresetError(
            f"{path} could not be read: {kept.reason(error)}. It stays as it is; the built-in "
            "chains are there without it. Mend it, or move it away to begin a new one."
        ) from error
    return chains


@contextmanager
def _changing() -> Iterator[dict[str, Any]]:
    """The saved chains, to be changed; written when the block ends well."""
    path = preset_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=PATIENCE):
            chains = _read(path)
            yield chains
            text = json.dumps({"format": FORMAT, "chains": chains}, indent=1, ensure_ascii=False)
            if len(text.encode()) > LARGEST_FILE:
                raise ValueError(f"the saved chains would have over {LARGEST_FILE >> 20} MiB.")
            with replacing(path) as part:
                part.write_bytes(text.encode())
    except Timeout as error:
        raise PresetError(f"{path} is being written by another process. Try again.") from error
    except OSError as error:
        raise PresetError(
            f"{path} could not be written: {kept.reason(error)}. The chains saved before are as "
            "they were. Make room, or set MULLAMA_LAB_CONFIG to a folder that can be written to."
        ) from error
