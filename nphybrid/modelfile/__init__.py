"""The functions of the commands `nphybrid convert`, `inspect`, `verify`, `compare` and `summary`."""
