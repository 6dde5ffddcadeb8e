"""Pruning: which weights remain. Scores of weights, exact counts with ties, random and permuted masks.

It knows tensors and torch's modules only: nothing of data sets, training or the store.
"""
