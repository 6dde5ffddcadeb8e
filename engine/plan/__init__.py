"""What to train: the options of an experiment, checked and resolved to a definition; its curves and runs; the paper's
experiments as presets.

This package uses only facts of data sets, models and ticket files that need no reading, and imports no torch. The
command line and the store use it. `engine.recipes` defines the identities of runs.
"""
