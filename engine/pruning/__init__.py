"""Pruning: which weights remain. Scores of weights, exact counts with ties, random and permuted masks.

It knows tensors only: nothing of data sets, training or the store.
"""
