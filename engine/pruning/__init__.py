"""Pruning decides which weights remain: scores of weights, exact counts with ties, random and permuted masks.

The package knows tensors and torch's modules, and nothing of data sets, training or the store.
"""
