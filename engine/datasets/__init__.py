"""Data sets: which are known, how a person names one, what its files hold, and how training is fed from it.

`catalog`, `specs` and what they import (npz, folders, manifests, ...) say what a set is and import neither torch nor
numpy; `load`, `official`, `streaming` and `decoding` read its images; `feed` and `pipeline` hand batches to training.
"""
