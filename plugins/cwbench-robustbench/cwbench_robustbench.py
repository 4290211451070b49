"""RobustBench's model zoo: ``--checkpoint robustbench://cifar10/Linf/NAME``, and its own figures beside ours.

The ``robustbench`` distribution knows the networks and fetches the weights; cwbench knows nothing of their training.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import cwbench
from cwbench.api import (
    CheckpointError,
    Dataset,
    ExternalFigure,
    OpenedCheckpoint,
    UsageError,
    cache_root,
    did_you_mean,
    reason_of,
    sha256_of_file,
    sha256_of_json,
    write_atomically,
)

cwbench_api_version = 1

SCHEME = "robustbench://"
DATASETS, THREATS = ("cifar10", "cifar100", "imagenet"), ("Linf", "L2")
FIGURES = "https://raw.githubusercontent.com/RobustBench/robustbench/master/model_info"
"""Where RobustBench publishes the figures of its leaderboard; CWBENCH_ROBUSTBENCH_FIGURES names a mirror."""
PATIENCE, LARGEST = 20, 1 << 20
"""Seconds and bytes that the figures of a model may take."""


@cwbench.hookimpl
def cwbench_open_checkpoint(uri: str, dataset: Dataset) -> OpenedCheckpoint | None:
    if not uri.startswith(SCHEME):
        return None
    data, threat, name = parsed(uri)
    if dataset.name != data:
        raise UsageError(f"{uri} is a model of {data}, and the run judges on {dataset.name}", f"--dataset {data}")
    folder = cache_root() / "robustbench"
    with _no_code_from_files(), redirect_stdout(sys.stderr):
        model = _loaded(data, threat, name, folder)
    files = sorted((folder / data / threat).glob(f"{name}.pt*"))
    if not files:
        raise CheckpointError(f"robustbench keeps no file of weights for {name}", "choose another model of its zoo")
    sha256 = sha256_of_file(files[0]) if len(files) == 1 else sha256_of_json([sha256_of_file(file) for file in files])
    external, note = figures(data, threat, name, folder / "figures")
    notes = ["loaded by the robustbench distribution; its training is unknown to cwbench", *([note] if note else [])]
    return OpenedCheckpoint(model, f"robustbench {name}", sha256, notes=tuple(notes), external=external)


def parsed(uri: str) -> tuple[str, str, str]:
    """Return dataset, threat and name of ``robustbench://cifar10/Linf/NAME``.

    Raises:
        UsageError: it is none, or the zoo has no such model.
    """
    _importable()
    from robustbench.model_zoo import model_dicts  # noqa: PLC0415 - seconds that other runs need not wait
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel  # noqa: PLC0415

    parts = uri.removeprefix(SCHEME).split("/")
    if len(parts) != 3 or parts[0] not in DATASETS or parts[1] not in THREATS:
        raise UsageError(
            f"{uri!r} is no model of RobustBench", f"{SCHEME}DATASET/THREAT/NAME with {DATASETS} and {THREATS}"
        )
    data, threat, name = parts
    known = model_dicts[BenchmarkDataset(data)].get(ThreatModel(threat), {})
    if name not in known:
        raise UsageError(f"RobustBench has no {threat} model {name!r} of {data}", did_you_mean(name, known))
    return data, threat, name


def _importable() -> None:
    """Let robustbench 1.1 import ``autoattack``: its requirements have that module as ``pyautoattack``."""
    try:
        import pyautoattack  # noqa: PLC0415
    except ImportError:
        return
    sys.modules.setdefault("autoattack", pyautoattack)


def _loaded(data: str, threat: str, name: str, folder: Path):
    from robustbench.utils import load_model  # noqa: PLC0415

    try:
        return load_model(name, model_dir=folder, dataset=data, threat_model=threat)
    except Exception as error:  # noqa: BLE001 - its downloader raises whatever it likes
        raise CheckpointError(
            f"RobustBench's {name} could not be loaded: {reason_of(error)}",
            f"with a network it is fetched; without, put its file at {folder / data / threat / f'{name}.pt'}",
        ) from None


@contextmanager
def _no_code_from_files() -> Iterator[None]:
    """Have PyTorch read weights only, whatever its version's default is: a pickle from the net must not run."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def figures(data: str, threat: str, name: str, cache: Path) -> tuple[tuple[ExternalFigure, ...], str | None]:
    """Return what RobustBench's leaderboard says of a model, fetched once, and a note where it cannot be had."""
    kept = cache / data / threat / f"{name}.json"
    address = f"{os.environ.get('CWBENCH_ROBUSTBENCH_FIGURES', FIGURES)}/{data}/{threat}/{quote(name)}.json"
    try:
        if not kept.is_file():
            with urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310 - the scheme is ours or the user's own
                content = answer.read(LARGEST)
            json.loads(content)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, content)
        found = json.loads(kept.read_bytes())
        source = f"RobustBench, {data} {threat} eps {found['eps']}"
        pairs = (("clean accuracy", "clean_acc"), ("AutoAttack robust accuracy", "autoattack_acc"))
        known = [(label, float(found[key]) / 100) for label, key in pairs if found.get(key)]
        entries = [ExternalFigure(name=label, value=value, source=source) for label, value in known]
    except (URLError, OSError, ValueError, KeyError, TypeError, cwbench.CwbenchError) as error:
        return (), f"RobustBench's figures could not be read: {reason_of(error)}"
    return tuple(entries), None
