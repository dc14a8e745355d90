"""Fits linear classifiers for your own classes, and measures the accuracy of models.

`classes` finds the class of each picture, from folders of folders or from labels.csv.
`logistic` finds the optimum of logistic regression for features with classes.
`probe` fits a linear classifier to features with classes, and chooses its strength by cross-validation.
`scores` computes the interval of an accuracy, and shows confusion matrices as text and as pictures.
`teach` fits a head to features with names of classes, and reports the accuracy of the head.
`evaluate` counts the pictures of known classes that a model classifies correctly.
"""
