"""Computes a row for each picture of a list.  The rows keep the order of the list.

A row contains the result of its picture, or an error. The memory use does not depend on the length of the list.

`inputs` makes a list of pictures from files, folders, globs and stdin.
`run` computes a Row for each picture of the list.
`rows` writes a Row as text, JSON, JSON Lines or CSV.
`progress` prints errors on stderr, and draws a progress bar on a terminal.
`identity` computes the SHA-256 values that identify the model and the list of a run.
`resume` finds the picture at which an interrupted run continues.
`cluster` computes the same Rows as `run`, on the workers of a Dask cluster.
`pipeline` defines pipelines that work like the pipelines of transformers.

A module in this list imports from the list only the modules above it.
"""
