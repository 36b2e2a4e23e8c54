"""Does an image look like those that a model was made for? Asked of the image itself.

`guard` answers it in serving, `fit` makes a guard of a training run, and
`python -m models.scope DATA WORK` does so from the command line.
"""
