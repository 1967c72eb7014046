"""Files of weights, read without running their code."""

from __future__ import annotations

import builtins
import json
import pickletools
import sys
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.errors import InputError
from repro.runtime import checkpoint

PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params")
"""Keys under which scripts save the weights of a net."""
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema")
"""Keys under which scripts save a moving average of the weights."""
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts that torch's wrappers add to names."""
COUNTERS = ("num_batches_tracked", "n_averaged")
"""Numbers of updates, which our nets do not read."""

METADATA = "repro"
"""The key in a file of safetensors under which a JSON object describes a net of ours."""
PIXELS = "pixels."
"""Begins the names of the pixel statistics in such a file."""

PLAIN_TYPES = ("_codecs", "argparse", "collections", "copyreg", "datetime", "decimal", "enum", "pathlib", "uuid")
"""Modules of the standard library with harmless types; functions of other modules may do anything."""

ARCHIVE = b"PK\x03\x04"
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
LFS_POINTER = b"version https://git-lfs"
NUM_PICKLES = 4
"""Pickles at the start of a file from before torch 1.6; the last one has the names of the weights."""
NAMED = 3
"""The most names in a message."""


@dataclass(frozen=True)
class WeightsFile:
    """The float32 weights of a net by name, and a sentence on each conversion."""

    weights: dict[str, Tensor]
    notes: tuple[str, ...]


class StandIn:
    """A harmless replacement for objects of a type that is not loaded."""

    of = ""

    def __new__(cls, *_: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_weights(path: Path) -> WeightsFile:
    """Read the weights of a net from a file of torch or safetensors, without running code in the file.

    Raises:
        InputError: The file is of another kind, is damaged, or has no finite floating-point weights of a net.
    """
    head = head_of(path)
    damaged = check_archive(path) if head.startswith(ARCHIVE) else None
    try:
        payload = read_safetensors(path) if is_safetensors(head) else read_torch(path, head.startswith(ARCHIVE))
    except InputError:
        raise
    except Exception as error:  # files of other kinds cause errors of many types
        if damaged:
            raise InputError(damage(path, [damaged])) from None
        # torch's own message would advise to run code in the file.
        raise InputError(
            f"{path} is not a file of weights alone, written by torch or safetensors ({type(error).__name__}): save "
            "model.state_dict() of the net"
        ) from None
    digest = payload.pop(checkpoint.DIGEST, None) if isinstance(payload, dict) else None
    if digest is not None and digest != checkpoint.digest(payload):
        raise InputError(f"the weights {path} are damaged: their values do not match the stored digest")
    found, notes = chosen(path, payload)
    if damaged:
        raise InputError(damage(path, unlike_their_checksum(path, found) or [damaged]))
    stripped, more = without_prefix(found)
    weights, conversions = as_float32(path, stripped)
    return WeightsFile(weights, (*notes, *more, *conversions))


def head_of(path: Path) -> bytes:
    """Read the first bytes of a file that may be weights.

    Raises:
        InputError: The file cannot be read, or is of a kind that cannot be weights.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"the weights {path} cannot be read ({error.strerror or error})") from None
    if kind := other_kind(head):
        raise InputError(f"{path} is {kind}")
    return head


def other_kind(head: bytes) -> str:
    """Describe a file that begins with ``head`` and cannot be weights, with a remedy; empty for other files."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        return "empty: copy or download it again"
    if text.lower().startswith(WEB_PAGE):
        return "a web page instead of weights: download the file that the page links to"
    if head.startswith(LFS_POINTER):
        return "a Git LFS pointer to the weights: `git lfs pull` in its repository downloads the weights"
    if head.startswith(COMPRESSED):
        return "compressed: unpack it first (gunzip, or tar xf for a tar archive), then name the file inside"
    try:
        start = head.decode()
    except UnicodeDecodeError:
        return ""
    if all(c.isprintable() or c.isspace() for c in start):
        return f"a text file, not weights: it begins with {start.strip()[:40]!r}"
    return ""


def check_archive(path: Path) -> str | None:
    """Return the first entry of a zip archive with a wrong checksum, because torch does not compare checksums."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise InputError(f"{path} is incomplete: its end is missing; copy or download it again") from None
    with archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise InputError(f"{path} is TorchScript, a program with weights: save its model.state_dict() instead")
        if not any(name.endswith("/data.pkl") for name in names):
            raise InputError(f"{path} is a zip archive of other files ({listed(names)}): unpack it first")
        if not any(entry.CRC for entry in archive.infolist()):
            return None  # torch.serialization.set_crc32_options(False) omits checksums
        try:
            damaged = archive.testzip()
        except (zlib.error, EOFError):  # the archive was compressed by another program
            damaged = names[0]
    if damaged is not None and damaged.endswith("/data.pkl"):  # the list of tensors
        raise InputError(damage(path, [damaged]))
    return damaged


def unlike_their_checksum(path: Path, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors whose checksum is not one of those in the archive."""
    with zipfile.ZipFile(path) as archive:
        checksums = {entry.CRC for entry in archive.infolist()}

    def checksum(value: Tensor) -> int:
        stored = torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage())
        return zlib.crc32(stored.numpy().data)

    return [name for name, value in weights.items() if checksum(value) not in checksums]


def damage(path: Path, parts: Sequence[str]) -> str:
    return f"{path} is damaged: the checksum of {listed(parts)} is wrong; copy or download it again"


def is_safetensors(head: bytes) -> bool:
    """Return whether a file begins like safetensors: with the length of a header, then its JSON object."""
    return head[8:9] == b"{"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the weights in a file of safetensors, without the statistics that one of ours holds beside them."""
    return {name: value for name, value in open_net(path)[1].items() if not name.startswith(PIXELS)}


def open_net(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what a file of safetensors says of its net, which is empty for others' files, and its tensors.

    Raises:
        InputError: The tensors do not have the digest that one of our files carries.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    if checkpoint.DIGEST in about and about[checkpoint.DIGEST] != checkpoint.digest(tensors):
        raise InputError(f"the weights {path} are damaged: their values do not have the digest that they carry")
    return about, tensors


def read_torch(path: Path, archive: bool) -> Any:
    """Read a file that torch saved; ``StandIn`` replaces types that torch does not know."""
    names = set(torch.serialization.get_unsafe_globals_in_checkpoint(path) if archive else globals_in(path))
    if found := sorted(name for name in names if may_act(name)):
        raise InputError(
            f"{path} is not a file of weights alone: reading it would call {listed(found)}; ask its author for a file "
            "of model.state_dict()"
        )
    # Types that torch itself knows take precedence.
    stand_ins = [(type("StandIn", (StandIn,), {"of": name}), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        return torch.load(path, map_location="cpu", weights_only=True)


def globals_in(path: Path) -> Iterator[str]:
    """Yield the full names of the types and functions to which a file from before torch 1.6 refers."""
    with path.open("rb") as file:
        for _ in range(NUM_PICKLES):
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    # Such files use the names of Python 2.
                    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                    yield f"{module}.{name}"


def may_act(name: str) -> bool:
    """Return whether a name may refer to a function with side effects, which a harmful file would call."""
    top, _, rest = name.partition(".")
    if top == "builtins":
        return not isinstance(getattr(builtins, rest, None), type)
    return top in sys.stdlib_module_names and top not in PLAIN_TYPES


def chosen(path: Path, payload: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Find the weights of a net in the content of a file, plain weights rather than averages."""
    found = dict(candidates(payload))
    if not found:
        raise InputError(f"{path} does not contain the weights of a net by name: {contents(payload)}")
    key, *others = found
    beside = f" and not those under {listed([repr(other) for other in others])}" if others else ""
    return found[key], [f"the weights under {key!r} are used{beside}"] if key else []


def candidates(payload: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the weights in the content of a file and the keys that lead to them, preferred weights first."""
    if not isinstance(payload, dict) or not payload:
        return
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in payload.items()):
        yield "", payload
        return
    for key in (*PLAIN, *AVERAGED):
        for below, weights in candidates(payload.get(key)):
            yield f"{key}.{below}" if below else key, weights


def contents(payload: Any) -> str:
    """Describe the content of a file without weights."""
    if isinstance(payload, StandIn):
        return f"it contains an object of type {payload.of}, whose code is not run; save its state_dict() instead"
    if not isinstance(payload, dict):
        return f"it contains a {type(payload).__name__}"
    odd = [f"{key!r} ({value.of})" if isinstance(value, StandIn) else repr(key) for key, value in payload.items()]
    return f"it contains {listed(odd, 10)}" if odd else "it is empty"


def without_prefix(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Remove wrappers' parts of names, a prefix that all names share, and counters."""
    kept = {name: value for name, value in weights.items() if name.rpartition(".")[2] not in COUNTERS}
    names = [[part for part in name.split(".") if part not in WRAPPERS] for name in kept]
    wrapped = any(part in WRAPPERS for name in kept for part in name.split("."))
    prefix = ""
    while names and all(len(name) > 2 and name[0] == names[0][0] for name in names):
        prefix += names[0][0] + "."
        names = [name[1:] for name in names]
    notes = [f"the prefix {prefix} of all names is removed"] if prefix else []
    notes += ["parts of names from torch's wrappers are removed"] if wrapped else []
    return dict(zip(map(".".join, names), kept.values(), strict=True)), notes


def as_float32(path: Path, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Convert weights to float32, the precision of our nets."""
    converted, precisions = {}, set()
    for name, value in weights.items():
        dense = value.layout == torch.strided and not value.is_meta and not value.is_quantized
        if not dense or not value.is_floating_point():
            kind = str(value.dtype if dense else value.layout).removeprefix("torch.")
            raise InputError(f"{path} cannot be tested: {name} has {kind} values, not floating-point numbers")
        converted[name] = value.detach().float()
        if value.dtype != torch.float32:
            precisions.add(str(value.dtype).removeprefix("torch."))
        if wrong := int((~converted[name].isfinite()).sum()):
            raise InputError(f"{path} cannot be tested: {wrong} of {value.numel()} values of {name} are not finite")
    return converted, [f"{' and '.join(sorted(precisions))} values are converted to float32"] if precisions else []


def listed(names: Sequence[str], most: int = NAMED) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
