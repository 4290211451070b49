"""Checkpoints: kept, fetched from the hub, and read from files that other code wrote."""
