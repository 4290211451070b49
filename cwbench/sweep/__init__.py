"""Sweeps: grids of runs, of which none is done twice, on one machine or many."""
