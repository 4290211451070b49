"""Keep freed memory in the process instead of giving it back to the system after every layer.

glibc maps each large activation anew and returns it when it is freed, so that the kernel zeroes the same pages for
every batch. On two cores of an AMD EPYC the 4-layer MNIST CNN computes 1.3 times as many input gradients per second
without that (``python benchmarks/throughput.py``, docs/performance.md).
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
LARGE = 1 << 30


def keep_freed_memory() -> None:
    """Raise glibc's thresholds for this process; does nothing with another C library.

    For a program that owns its process, such as the command line: a library must not do this to its host.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, LARGE)
