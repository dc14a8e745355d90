"""What is done with a model after the first picture: folders, features, your own classes.

    inputs      files, folders, globs, stdin                  -> a list of pictures
    run         a list, a model                               -> a row per picture, in order, in bounded memory
    cluster     the same rows, from the workers of a Dask cluster
    rows        a row                                         -> text, JSON, JSON Lines, CSV
    resume      an interrupted output                         -> the picture to go on with
    progress    how many are done                             -> a bar on a terminal
    states      a model, the name of a state                  -> a function that computes features
    embedding   features, picture by picture                  -> a file, resumable
    features    a file of features                            -> Features; parquet is the part that needs pyarrow
    classes     folders of folders, labels.csv                -> the class of each picture
    logistic    features, classes                             -> the optimum of logistic regression
    probe       features, classes                             -> a linear classifier, cross-validated
    teach       features, names of classes                    -> a head and its report
    evaluate    pictures of known classes, a model            -> how many it gets right
    scores      counts of right answers                       -> intervals, confusion as text and picture
"""
