"""A file becomes an RGB picture; the resampling filters that are not Pillow's."""
