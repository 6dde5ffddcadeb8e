"""Learning-rate schedules: the learning rate of an epoch, a pure function of the training and the epoch's number."""

import math

from engine.recipes import Training


def step(training: Training, epoch: int) -> float:
    """The first epoch's rate, multiplied by the decay at each milestone reached (section 3)."""
    # 0.1 has no exact float, its inverse has.
    return training.learning_rate / (1 / training.decay) ** sum(epoch >= milestone for milestone in training.milestones)


def cosine(training: Training, epoch: int) -> float:
    """Half a cosine from the first epoch's rate to nearly 0 (Loshchilov and Hutter 2017, without restarts)."""
    return training.learning_rate * (1 + math.cos(math.pi * epoch / training.epochs)) / 2


def constant(training: Training, epoch: int) -> float:
    """The first epoch's rate, at every epoch."""
    return training.learning_rate
