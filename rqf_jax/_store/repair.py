"""A finished run that has lost chunks, while they are computed again into their places."""

from pathlib import Path

from .checkpoints import Checkpoints
from .draft import Draft, Result, write_chunk
from .files import is_partial, listing, remove
from .manifest import Manifest, Root
from .plan import Plan


class Repair:
    """The run at `out` with the plan it was made by; its manifest changes when all is done."""

    def __init__(self, out: Path, plan: Plan, root: Root, manifest: Manifest):
        self.out, self.plan, self.root, self.manifest = out, plan, root, manifest
        self._files = dict(manifest.files)
        remove(out, filter(is_partial, listing(out)))

    def segments(self, chunk: int) -> Checkpoints:
        """The segments of a chunk that is under way."""
        return Draft.checkpoints(self.out, chunk)

    def set_batch(self, batch: int) -> None:
        """Nothing: the run keeps the plan by which most of it was made."""

    def write(self, chunk: int, result: Result) -> None:
        """Put one chunk into the finished store."""
        self._files |= write_chunk(self.out, self.plan, chunk, result.values)
        self.segments(chunk).discard()

    def commit(self) -> bool:
        """Bring the manifest up to date; whether all chunks came back bit for bit."""
        Draft.discard(self.out)
        same = self._files == self.manifest.files
        if not same:
            Manifest(self.manifest.plan, self._files).write(self.out, self.root.attributes)
        return same
