"""What a follower needs of the run that it trains along with: all of it, so that it opens no database."""

from pathlib import Path

import msgspec

from engine.recipes import Run
from engine.store.files import Folder


class Job(msgspec.Struct, frozen=True):
    """A run, and where on this machine lies what it stands on. Its methods are those of `Sources`."""

    recipe: str  # the run's canonical JSON
    data: str  # the location of its data set
    model: str  # the folder of its own model
    files: dict[str, str]  # by digest and kind, the SHA-256 of each file that other runs left for it
    path: str  # of the folder where those lie, and its checkpoint
    resumes: bool  # from that checkpoint

    @property
    def run(self) -> Run:
        """The run."""
        return Run.from_json(self.recipe)

    @property
    def folder(self) -> Folder:
        """Where its files lie."""
        return Folder(Path(self.path))

    def read(self, run: str, kind: str) -> bytes:
        """The file of a kind that another run left. Raises LostFile."""
        return self.folder.get(self.files[f"{run} {kind}"])

    def location(self, dataset: str) -> str:
        """Where its data set lies."""
        return self.data

    def model_folder(self, model: str) -> str:
        """Where the source of its own model lies."""
        return self.model
