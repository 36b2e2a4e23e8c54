"""How a model is made: folds, augmentation, network, and the loop.

`python -m models.training DATA WORK` runs the plan of the shipped lung model.
"""
