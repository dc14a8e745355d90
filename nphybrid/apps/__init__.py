"""What is done with a model after the first picture: folders, features.

    inputs      files, folders, globs, stdin          -> a list of pictures
    run         a list, a model                       -> a row per picture, in order, in bounded memory
    rows        a row                                 -> text, JSON, JSON Lines, CSV
    resume      an interrupted output                 -> the picture to go on with
    progress    how many are done                     -> a bar on a terminal
    states      a model, the name of a state          -> a function that computes features
    embedding   features, picture by picture          -> a file, resumable
    features    a file of features                    -> Features; parquet is the part that needs pyarrow
"""
