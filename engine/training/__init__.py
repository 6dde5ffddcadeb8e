"""Training: the loop of one run, the settings of its process, CUDA graphs of steps, runs on several devices, and
checkpoints.

The package receives a network, masks and a feed of batches, and knows nothing of queues or claims.
"""
