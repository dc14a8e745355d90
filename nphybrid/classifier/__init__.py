"""Linear classifiers for your own classes, and the accuracy of a model on pictures of known classes.

    classes     folders of folders, labels.csv                -> the class of each picture
    logistic    features, classes                             -> the optimum of logistic regression
    probe       features, classes                             -> a linear classifier, cross-validated
    scores      counts of correct answers                     -> intervals; confusion matrices as text and picture
    teach       features, names of classes                    -> a head and its report
    evaluate    pictures of known classes, a model            -> how many pictures the model classifies correctly
"""
