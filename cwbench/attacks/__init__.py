"""The built-in attacks, one file each."""
