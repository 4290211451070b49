"""Plugins: how they are found, named, started and checked."""
