"""A file per family of checkpoints: their names, their configurations, their preparation of pictures."""
