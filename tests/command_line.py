"""``cwbench …`` as a process of its own, forked from one that has loaded PyTorch: to load it takes each some seconds.

The folder, the variables, the exit code and both streams are the process's own, and so is PyTorch's number of threads.
What is about a start from nothing, a killed process, or what else is read when a library loads needs ``subprocess``.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import torch

from cwbench.cli import main

LOADED = [
    "torch._dynamo",
    "sklearn.datasets",
    "scipy.stats",
    "matplotlib.figure",
    "cwbench.evaluation.harness",
    "cwbench.study.findings.homing",
]
"""None of them loads huggingface_hub, which reads its variables once."""


def run(*arguments: str, cwd: Path, environment: Mapping[str, str], timeout: float = 300) -> CompletedProcess[str]:
    """Run the command line to its end, without a terminal; raises ``TimeoutExpired``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        for path in (out, err):
            path.touch()
        process = context.Process(target=_main, args=(arguments, cwd, dict(environment), out, err))
        process.start()
        try:
            process.join(timeout)
            code = process.exitcode
        finally:  # also when the test is interrupted
            process.kill()
            process.join()
        if code is None:
            raise TimeoutExpired(arguments, timeout, out.read_text(), err.read_text())
        return CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _main(arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream.fileno())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["cwbench", *arguments]
    assert "huggingface_hub" not in sys.modules, "it has read its variables before this process had its own"
    if "OMP_NUM_THREADS" in environment:  # which PyTorch reads when it loads
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    main()
