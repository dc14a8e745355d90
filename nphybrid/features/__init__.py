"""Reads and writes feature files.  `nphybrid embed` writes feature files, and `nphybrid probe fit` reads them.

`contents` defines and checks the contents of a feature file. All formats store the same contents.
`h5` reads and writes .h5 files.
`npy` reads and writes .npy files.
`parquet` reads and writes .parquet files, and needs the package pyarrow.
`files` chooses the format by the suffix of a path, and reads or writes the file.
`writer` writes a feature file picture by picture. It can continue an interrupted run, and add the
features of more pictures to a file.
"""
