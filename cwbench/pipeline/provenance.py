"""Where and with what a report was made."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cwbench.plugins.discovery import Origin
from cwbench.report.records import Provenance


def provenance(
    *,
    device: torch.device,
    seed: int,
    batch_size: int,
    precision: Literal["fp32", "bf16"],
    folded: int,
    origins: list[Origin],
) -> Provenance:
    """Record this process: versions, machine, and the distributions that the run's plugins came from."""
    return Provenance(
        created=datetime.now(UTC),
        cwbench=version("cwbench"),
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=platform.platform(),
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        threads=torch.get_num_threads(),
        seed=seed,
        batch_size=batch_size,
        precision=precision,
        folded=folded,
        plugins={origin.distribution: origin.version for origin in origins},
    )


def _commit() -> str | None:
    """Return the commit of the source checkout that this runs from, with ``-dirty`` behind it where it was changed."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
