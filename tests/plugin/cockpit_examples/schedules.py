"""A learning-rate schedule."""

from engine.recipes import Training


def halving(training: Training, epoch: int) -> float:
    """Half the rate after each epoch."""
    return float(training.learning_rate * 0.5**epoch)
