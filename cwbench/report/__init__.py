"""Reports: read, checked, compared, tabulated and plotted. Nothing here loads PyTorch or plugins."""
