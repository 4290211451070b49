"""The study's findings as functions of reports and checkpoints: each gives a small result with a table and a figure."""
