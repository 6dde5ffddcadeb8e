"""What is to be trained: the options of an experiment, checked and resolved to a definition; the curves and runs it
consists of; the paper's experiments as presets.

It stands on what is known of data sets, models and ticket files before anything is read, and imports no torch: the
command line and the store stand on it. Identities of runs are made in `engine.recipes`.
"""
