"""Analysis of results: means, intervals and paired differences, the paper's claims, comparisons of tickets by layer,
and estimates of the time and disk that the queue needs.

This package reads the store, writes nothing and imports no torch.
"""
