"""What every package may use: files, digests, exact numbers, the console, processes, errors."""
