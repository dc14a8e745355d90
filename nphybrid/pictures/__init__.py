"""Decode picture files to RGB (`decode`), and resample pictures bilinearly as TensorFlow does (`resample`)."""
