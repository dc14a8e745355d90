"""Your own classes: a linear classifier on features, and how many pictures a model gets right."""
