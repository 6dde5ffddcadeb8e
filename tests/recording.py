"""Recording of steps without a CUDA device."""

from engine.training import graphs


class AsCudaDoes:
    """Recording without a device: what a graph does when it is replayed is the work, on the tensors that it was given.

    A batch that came later is not among them, unless it was copied there.
    """

    def __init__(self) -> None:
        self.warmed = self.recorded = self.replayed = 0
        self.possible = True

    def refuse(self, error: Exception) -> None:
        self.possible = False

    def warm(self, work: graphs.Work) -> None:
        self.warmed += 1
        work()

    def record(self, work: graphs.Work) -> graphs.Work:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay
