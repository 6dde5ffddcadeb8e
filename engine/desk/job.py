"""All that a follower needs to know about its run, so that a follower opens no database."""

from pathlib import Path

import msgspec

from engine.recipes import Run
from engine.store.files import Folder


class Job(msgspec.Struct, frozen=True):
    """A run and the places of its inputs on this machine. Implements `Sources`."""

    recipe: str  # the run's canonical JSON
    data: str  # the path of its data set
    model: str  # the folder of its user model's source
    files: dict[str, str]  # "DIGEST KIND": the SHA-256 of that file of another run
    path: str  # the folder of these files and of the run's checkpoint
    resumes: bool  # whether training starts from that checkpoint

    @property
    def run(self) -> Run:
        """The run."""
        return Run.from_json(self.recipe)

    @property
    def folder(self) -> Folder:
        """The folder of its files."""
        return Folder(Path(self.path))

    def read(self, run: str, kind: str) -> bytes:
        """The content of a file of `kind`, stored by the run with digest `run`. Raises LostFile."""
        return self.folder.get(self.files[f"{run} {kind}"])

    def location(self, dataset: str) -> str:
        """The path of its data set."""
        return self.data

    def model_folder(self, model: str) -> str:
        """The folder of its user model's source; empty for a built-in model."""
        return self.model
