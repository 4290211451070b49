"""The study as commands: what is missing is trained and judged, the rest is drawn from what is there."""
