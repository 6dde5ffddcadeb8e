"""Training: the loop of one run, what its process is set to, steps recorded as CUDA graphs, several devices on one
run, and a training under way as a checkpoint.

It is given a network, a mask and a feed of batches, and knows nothing of queues or claims.
"""
