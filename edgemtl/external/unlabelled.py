"""Images without labels, of one folder or several, as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.problems import Problems
from ..data.sample import Sample
from ..errors import DataError
from ..prediction_images import Unlabelled, find_images


class UnlabelledImages:
    """The images at some folders, files or datasets; of a dataset those of its split ``train``, or of all."""

    def __init__(self, sources: Sequence[Path], modalities: Sequence[str]) -> None:
        """Raises `DataError` where a source holds no images of these modalities."""
        self.classes: dict[str, tuple[str, ...]] = {}
        self.modalities = tuple(modalities)
        self.images: list[Unlabelled] = []
        self.skipped = Problems()
        for source in sources:
            images, problems = find_images(source, list(modalities))
            train = [image for image in images if image.split == "train"]
            self.images += train or images
            self.skipped.extend(problems)
        self.images = list({next(iter(i.entry.images.values())).resolve(): i for i in self.images}.values())
        self.unreadable: set[str] = set()
        """Images that could not be decoded, by name."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample; one whose image cannot be decoded gives the next one's."""
        for offset in range(len(self.images)):
            image = self.images[(index + offset) % len(self.images)]
            sample = image.entry.read(Problems())
            if sample is not None:
                return sample
            self.unreadable.add(image.file)
        raise DataError(f"none of {len(self.images)} images can be read, like {self.images[0].file}")

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day: it is not known."""
        return None
