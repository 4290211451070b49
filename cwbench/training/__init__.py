"""Training: from a recipe, a defense and a split to a checkpoint."""
