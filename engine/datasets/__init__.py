"""Data sets: names, facts, files, and batches for training.

`catalog`, `specs` and their imports (npz, folders, manifests, ...) give the facts of a set, without torch or numpy.
`load`, `official`, `streaming` and `decoding` read its images. `feed` and `pipeline` give batches to training.
"""
