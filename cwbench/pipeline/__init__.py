"""One run end to end: ``cwbench.run``, ``cwbench.evaluate`` and ``cwbench verify``."""
