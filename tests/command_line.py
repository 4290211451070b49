"""``cwbench …`` as a process of its own, forked from one that has loaded PyTorch: to load it takes each some seconds.

What is about a process that starts from nothing, or about variables that Python and PyTorch read when they start, needs
``subprocess``. A folder, variables, exit code and both streams are the process's own here too.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

LOADED = [
    "torch._dynamo",
    "sklearn.datasets",
    "scipy.stats",
    "matplotlib.figure",
    "cwbench.evaluation",
    "cwbench.findings.homing",
]
"""None of them loads huggingface_hub, which reads its variables once."""


def run(*arguments: str, cwd: Path, environment: Mapping[str, str], timeout: float = 300) -> CompletedProcess[str]:
    """Run the command line to its end, without a terminal; raises ``TimeoutExpired``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = context.Process(target=_main, args=(arguments, cwd, dict(environment), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutExpired(arguments, timeout, out.read_text(), err.read_text())
        return CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _main(arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["cwbench", *arguments]
    from cwbench.cli import main

    main()
