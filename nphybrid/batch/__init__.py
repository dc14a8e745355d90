"""Many pictures: a list of them in, a row for each out, in order and in bounded memory.

    inputs      files, folders, globs, stdin                  -> the list of pictures
    run         a list, functions that prepare and compute    -> a Row for each picture
    rows        a Row                                         -> text, JSON, JSON Lines, CSV
    progress    rows                                          -> a progress bar on a terminal, errors on stderr
    identity    a model, a list, options                      -> the SHA-256 values by which a run is recognized
    resume      an interrupted file of rows                   -> the picture to continue with
    cluster     a list, a Dask cluster                        -> the same Rows, computed by its workers
    pipeline    a task, a model                               -> a function like transformers' pipelines

A module imports only those above it.
"""
