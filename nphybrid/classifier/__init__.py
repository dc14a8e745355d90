"""Fits linear classifiers for your own classes, and measures the accuracy of models.

`classes` finds the class of each picture, from the name of its folder or from a file of labels.
`logistic` finds the optimum of logistic regression for features with known classes.
`probe` fits a linear classifier, and chooses the strength of the regularization by cross-validation.
`scores` computes confidence intervals of accuracies, and shows confusion matrices as text and as pictures.
`teach` fits a head to features and the names of their classes, and reports the accuracy of the head.
`evaluate` counts the pictures with a known class that a model classifies correctly.
"""
