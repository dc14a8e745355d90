"""Files of features: what `nphybrid embed` writes and `nphybrid probe fit` reads.

    contents    what a file of features contains, whatever its format, and its rules
    h5          } each format: `write` and
    npy         } `contents`, which reads
    parquet     } (needs pyarrow)
    files       a path, by its suffix                         -> read, write, contents
    writer      features, picture by picture                  -> a file that can be resumed and added to
"""
