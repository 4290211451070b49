"""``python -m cwbench``."""

from cwbench.cli import main

main()
