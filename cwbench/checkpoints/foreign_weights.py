"""Weights that somebody else's code wrote: read without running anything, and fitted to one of our networks by name.

A file is a ``.safetensors`` or what ``torch.save`` writes. Of the latter only tensors and plain containers are read
(``weights_only=True``): a pickle that would call anything else is refused, and never run.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cwbench.api import Classifier
from cwbench.backbones.normalize import Normalize
from cwbench.internal import digest
from cwbench.internal.errors import CheckpointError, did_you_mean, reason_of

AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
"""Under which names files keep averaged weights; they are what their authors judge, so they come first."""
NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "module")
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.", "encoder.")
"""What wrappers put in front of every name: data parallel training, compilation, a class around the network."""
SHOWN, DEEPEST, LONGEST = 8, 5, 100
INFLATION = 4
"""How much larger a file's content may be than the file: ``torch.save`` does not compress at all."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, and what was recognised to find them."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]
    sha256: str


def read_weights(path: Path, part: str | None = None) -> Weights:
    """Read the weights in a file; ``part`` names the entry that holds them, where the file has several.

    Raises:
        CheckpointError: no such file, a damaged or hostile one, or one without weights.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}", "--checkpoint takes a file, a digest or hf://user/repo")
    with path.open("rb") as file:
        begins = file.read(64).lstrip().lower()
    if begins.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint", "download the file itself, not the page about it"
        )
    if begins.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a pointer of Git LFS, not a checkpoint", "fetch its content with `git lfs pull`"
        )
    content: Any = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    found = _find_entry(content, part, path) if part is not None else _find_weights(content, path)
    if found is None:
        entries = sorted(map(str, content))
        raise CheckpointError(
            f"{path} holds no weights by name; its entries: {_shown(entries) or 'none'}",
            "name one: --checkpoint FILE#ENTRY",
        )
    tensors, chosen = (found.tensors, []) if part else _averaged(found.tensors)
    tensors, stripped = _without_prefixes(tensors)
    return Weights(tensors, (*found.notes, *chosen, *stripped), digest.of_file(path))


def fit_weights(model: Classifier, weights: Weights, *, subject: str, backbone: str) -> tuple[str, ...]:
    """Load weights into a network by name, and return what a reader of the report must know.

    Normalisation stays the backbone's own, since files rarely hold it. Tensors that the network has no place for are
    listed; any that it lacks are an error.

    Raises:
        CheckpointError: something is missing or of another shape, such as a head for another number of classes.
    """
    wanted = model.state_dict()
    renamed: dict[str, str] = {}
    doubles = []
    for name in sorted(weights.tensors, key=lambda name: name not in wanted):  # a network's own names come first
        own = _own(model, name, wanted)
        if own in renamed:
            doubles.append(name)
        else:
            renamed[own] = name
    constants = _constants(model)
    missing = [name for name in wanted if name not in renamed and name not in constants]
    # Networks count batches only for a momentum that none of ours uses.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    left_over = [name for own, name in renamed.items() if own not in wanted] + doubles
    if missing:
        raise CheckpointError(
            f"{subject} lacks {len(missing)} of the {len(wanted)} tensors of {backbone}: {_shown(missing)}; "
            f"left over are {_shown(left_over) or 'none'}{''.join(f'; {note}' for note in weights.notes)}",
            "name the backbone that it was trained with, --backbone NAME, or another entry of the file, FILE#ENTRY",
        )
    found = {own: weights.tensors[name] for own, name in renamed.items() if own in wanted}
    odd = [
        (name, kind)
        for name, tensor in found.items()
        if (kind := _kind(tensor, real=wanted[name].is_floating_point())) != "dense"
    ]
    if odd:
        raise CheckpointError(
            f"{subject}: {odd[0][0]} is a tensor of kind {odd[0][1]}", "save the weights as dense real numbers"
        )
    _refuse_other_shapes(found, wanted, subject, backbone)
    model.load_state_dict(
        wanted | {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    )
    if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values()):
        raise CheckpointError(f"{subject} holds NaN or infinite weights", "ask its author for a sound copy")
    notes = [f"left over: {_shown(left_over)}"] if left_over else []
    halves = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in found.values()} & {"float16", "bfloat16", "float64"}
    )
    return (*notes, *(f"{kind} weights are judged as float32" for kind in halves))


def _kind(tensor: Tensor, *, real: bool) -> str:
    """Return what keeps a tensor from being copied into a network, where it is ``real`` numbers; or ``dense``."""
    kinds = {
        "quantized": tensor.is_quantized,
        "sparse": tensor.layout != torch.strided,
        "complex": tensor.is_complex(),
        "meta": tensor.device.type == "meta",
        "integer": real and not tensor.is_floating_point(),
    }
    return next((name for name, true in kinds.items() if true), "dense")


def _own(model: Classifier, name: str, wanted: Mapping[str, Tensor]) -> str:
    return name if name in wanted else model.features.own_name(name)


def _constants(model: Classifier) -> set[str]:
    """Return the names of what normalisation holds."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, Normalize)
        for name in ("mean", "std")
    }


def _refuse_other_shapes(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], subject: str, backbone: str
) -> None:
    other = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    if "head.weight" in other and other[0].startswith("head."):
        knows, classes = len(found["head.weight"]), len(wanted["head.weight"])
        if knows != classes:
            raise CheckpointError(
                f"the last layer of {subject} knows {knows} classes, and the dataset has {classes}",
                "judge it on the dataset that it was trained for: --dataset NAME",
            )
    if other:
        first = other[0]
        has, needs = (tuple(t[first].shape) for t in (found, wanted))
        raise CheckpointError(
            f"{subject} does not fit {backbone}: {first} is {has} there and {needs} here, "
            f"and {len(other) - 1} more differ",
            "name the backbone that it was trained with: --backbone NAME",
        )


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a sound safetensors file: {error}", "fetch it again") from None


def _pickled(path: Path) -> Any:
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # about unusual pickles: they are read or refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # PyTorch's own advice is to switch the protection off, which is what must not be passed on.
        named = re.search(r"(?:GLOBAL|class|global)s? `?([\w.]+\.[\w.]+)`?", str(error))
        what = f"would run {named[1]}" if named else "holds more than tensors"
        raise CheckpointError(
            f"{path} {what} when it is loaded, and cwbench runs nothing that a file brings along",
            "ask its author for the state dict alone, as safetensors or by torch.save(model.state_dict(), FILE)",
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged file fails in PyTorch's reader in many ways
        raise CheckpointError(
            f"{path} is not a sound checkpoint of PyTorch: {reason_of(error)}", "fetch it again"
        ) from None


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive whose content is much larger than it is, before anything of it is unpacked."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path} is a damaged archive: {error}", "fetch it again") from None
    if content > INFLATION * path.stat().st_size:
        raise CheckpointError(
            f"{path} unpacks to {content:,} bytes, more than {INFLATION} times its size: no checkpoint does",
            "ask for it again as torch.save or safetensors writes it",
        )


@dataclass(frozen=True)
class _Named:
    """Tensors by name in what a file holds, and how they were found."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def _find_weights(content: Any, path: Path, depth: int = 0) -> _Named | None:
    """Return the weights in a container: in an entry that usually holds them, averaged ones first, or in itself.

    Raises:
        CheckpointError: it is not a mapping, or is nested too deeply.
    """
    entries = _entries(content, path, depth)
    nested = [name for name in (*AVERAGED, *NESTED) if isinstance(entries.get(name), Mapping)]
    inside = {name: found for name in nested if (found := _find_weights(entries[name], path, depth + 1))}
    if inside:
        name, found = next(iter(inside.items()))
        others = ", ".join(other for other in inside if other != name)
        kind = "averaged weights, its entry" if name in AVERAGED else "weights are its entry"
        note = f"{kind} {name}" + (f", and {others} beside it was not used" if others else "")
        return _Named(found.tensors, (note, *found.notes))
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    return _Named(tensors) if tensors else None


def _find_entry(content: Any, part: str, path: Path, depth: int = 0) -> _Named:
    """Return the weights in the entry of a container that the user named; ``a.b`` is the entry ``b`` of ``a``.

    Raises:
        CheckpointError: there is no such entry, or it holds no weights.
    """
    entries = _entries(content, path, depth)
    if part in entries:
        inside = entries[part] if isinstance(entries[part], Mapping) else {}
        found = _find_weights(inside, path, depth + 1)
        if found is None:
            names = _shown(sorted(map(str, inside))) or "nothing"
            raise CheckpointError(f"the entry {part!r} of {path} holds no weights", f"FILE#{part}.NAME, of: {names}")
        return _Named(found.tensors, (f"weights are its entry {part}", *found.notes))
    first, _, rest = part.partition(".")
    if rest and isinstance(entries.get(first), Mapping):
        below = _find_entry(entries[first], rest, path, depth + 1)
        return _Named(below.tensors, (f"weights are its entry {part}", *below.notes[1:]))
    raise CheckpointError(f"{path} has no entry {part!r}", did_you_mean(part, entries))


def _entries(content: Any, path: Path, depth: int) -> dict[str, Any]:
    """Return the entries of a container by name.

    Raises:
        CheckpointError: it is not a mapping, or is nested too deeply.
    """
    if depth > DEEPEST:  # a container may even hold itself
        raise CheckpointError(f"{path} nests its entries deeper than {DEEPEST}", "save model.state_dict()")
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not weights by name", "save model.state_dict()"
        )
    return {str(name): value for name, value in content.items()}


def _averaged(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the averaged weights alone where plain ones lie beside them and names begin by which they are."""
    for name in AVERAGED:
        front = f"{name}."
        inside = {key.removeprefix(front): tensor for key, tensor in tensors.items() if key.startswith(front)}
        if 3 * len(inside) > len(tensors):  # beside an average may lie its counters, too
            aside = len(tensors) - len(inside)
            notes = [f"averaged weights, the names under {front}" + (f", and {aside} others not used" if aside else "")]
            return inside, notes
    return tensors, []


def _without_prefixes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Take off what wrappers put in front of most names; the others, such as a loss's own tensors, stay."""
    notes: list[str] = []
    left = dict(tensors)
    while True:
        prefix = next((p for p in PREFIXES if 2 * sum(name.startswith(p) for name in left) > len(left)), None)
        if prefix is None:
            return left, notes
        # A name that is there without the prefix, too, keeps its own: the other is left over.
        bare = {name for name in left if not name.startswith(prefix)}
        left = {
            name if name.removeprefix(prefix) in bare else name.removeprefix(prefix): tensor
            for name, tensor in left.items()
        }
        notes.append(f"prefix {prefix} taken off the names")


def _shown(names: list[str]) -> str:
    return ", ".join(name[:LONGEST] for name in names[:SHOWN]) + (
        f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    )
