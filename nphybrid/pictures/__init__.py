"""A file becomes an RGB picture (`decode`), and TensorFlow's bilinear resampling, which Pillow lacks (`resample`)."""
