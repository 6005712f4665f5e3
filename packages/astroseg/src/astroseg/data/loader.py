"""From a dataset to a stream of samples that is a pure function of seed and step.

The order of the images depends on (seed, epoch), the view of each on (seed, its place in
the stream). Nothing depends on the number of workers, GPUs or accumulation parts, nor on
where a run was interrupted.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as MapDataset

from astroseg.core.config import DataConfig
from astroseg.core.crops import crops_of
from astroseg.core.errors import AstrosegError, InputError
from astroseg.core.samples import Sample
from astroseg.data.augment import (
    Objects,
    View,
    decode,
    random_view,
    seen_regions,
    turn,
    view_objects,
    whole,
)
from astroseg.data.dataset import Dataset
from astroseg.data.look import Look, clean, read_record

logger = logging.getLogger(__name__)

PREFETCH = 4
"""Batches each worker keeps ready: enough to smooth out a slow file."""


class Cache:
    """Values by key up to a total size in bytes; the least recently used go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """The value of a key, made when it is not held."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value = make()
        nbytes = size(value)
        if nbytes <= self._limit:
            self._values[key] = (value, nbytes)
            self._held += nbytes
        while self._held > self._limit:
            _, (_, freed) = self._values.popitem(last=False)
            self._held -= freed
        return value


MAPPED_BYTES = 64 * 1024
"""What an open map counts in the cache, so that their number stays far below the limits
of the system: 16 per MiB."""


@dataclass(frozen=True)
class Ticket:
    """One sample of the stream: its place in it, and the image it shows."""

    place: int
    index: int


class Samples(MapDataset[Any]):
    """Samples of a dataset by ticket.

    Errors the user can mend are returned, not raised: a worker's traceback would bury
    their message.
    """

    def __init__(
        self,
        dataset: Dataset,
        looks: Sequence[Look],
        config: DataConfig,
        *,
        seed: int,
        crop: float,
        flips: bool,
        cache_bytes: int,
    ) -> None:
        self.dataset = dataset
        self.looks = looks
        self.config = config
        self.seed, self.crop, self.flips = seed, crop, flips
        self._cache = Cache(cache_bytes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, ticket: Ticket) -> Sample | AstrosegError:
        record = self.dataset.images[ticket.index]
        generator = np.random.default_rng((self.seed, 1, ticket.place))
        shape = (record.height, record.width)
        view = random_view(shape, generator, crop=self.crop, flips=self.flips)
        try:
            return self.sample(ticket.index, view)
        except AstrosegError as error:
            return error

    def sample(self, index: int, view: View | None = None) -> Sample:
        """One image in a view of it; by default the whole as it is."""
        record, look = self.dataset.images[index], self.looks[index]
        if view is None:
            view = whole((record.height, record.width))
        pixels = self._cache.get(
            ("pixels", index), partial(read_record, record), lambda p: p.nbytes or MAPPED_BYTES
        )
        objects = self._cache.get(
            ("objects", index), partial(decode, self.dataset.truth[index]), attrgetter("nbytes")
        )
        flux = pixels.crop(view.y0, view.x0, view.height, view.width, look.order)
        image = turn(look(clean(flux, record, self.config), view.y0, view.x0), view)
        seen: Objects = view_objects(objects, view, self.config.keep_fraction)
        return Sample(
            image=np.ascontiguousarray(image, np.float32),
            boxes=seen.boxes,
            labels=seen.labels,
            masks=crops_of(seen.bitmaps, seen.corners, view.shape),
            image_id=record.id,
            ignored=seen_regions(self.dataset.truth[index].ignored, view),
            targets=seen.targets,
            weights=seen.weights,
        )


@lru_cache(maxsize=4)  # a step asks for one or two epochs again and again
def image_order(images: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Order in which an epoch shows the images."""
    return tuple(np.random.default_rng((seed, 0, epoch)).permutation(images).tolist())


@dataclass(frozen=True)
class Stream:
    """Which samples each step of a run takes.

    Attributes
    ----------
    images : in the training set.
    batch : samples per step over all ranks and parts.
    steps : of the whole run.
    seed : of the order.
    parts : micro-batches per rank and step.
    rank, ranks : this process among those that train together.
    """

    images: int
    batch: int
    steps: int
    seed: int
    parts: int = 1
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.batch % (self.ranks * self.parts):
            raise InputError(
                f"a batch of {self.batch} cannot be shared evenly by {self.ranks} processes "
                f"of {self.parts} parts each",
                remedy="make --batch-size a multiple of processes times --accumulate",
            )

    def tickets(self, step: int) -> list[Ticket]:
        """Samples of this rank in a step, in the order of its parts."""
        places = range(step * self.batch + self.rank, (step + 1) * self.batch, self.ranks)
        return [Ticket(place, self._index(place)) for place in places]

    def _index(self, place: int) -> int:
        epoch, position = divmod(place, self.images)
        return image_order(self.images, self.seed, epoch)[position]

    def micro_batches(self, start: int = 0) -> Iterator[list[Ticket]]:
        """Batches of this rank's parts from a step on to the end of the run."""
        size = self.batch // (self.ranks * self.parts)
        for step in range(start, self.steps):
            tickets = self.tickets(step)
            for part in range(self.parts):
                yield tickets[part * size : (part + 1) * size]


def open_stream(samples: Samples, stream: Stream, start: int, workers: int) -> Iterator[Any]:
    """Micro-batches (lists of samples) of a run from a step on, loaded ahead by workers."""
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=_Batches(stream, start),
        collate_fn=_as_list,
        num_workers=workers,
        # Forked workers share the labels with the trainer; started otherwise each has its own.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_quiet_worker,
    )
    for batch in loader:
        for item in batch:
            if isinstance(item, AstrosegError):
                raise item
        yield batch


class _Batches:
    """The stream as the loader's batch sampler."""

    def __init__(self, stream: Stream, start: int) -> None:
        self._stream, self._start = stream, start

    def __iter__(self) -> Iterator[list[Ticket]]:
        return self._stream.micro_batches(self._start)

    def __len__(self) -> int:
        return (self._stream.steps - self._start) * self._stream.parts


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def _quiet_worker(_: int) -> None:
    # Ctrl-C and a scheduler's end reach all processes; the trainer alone answers them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the trainer is killed: else it would wait forever, with its
    memory, for somebody to read the samples it has ready."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def default_workers(on_gpu: bool) -> int:
    """Loader processes: four feed a GPU, one runs ahead of a CPU that has cores to spare."""
    cores = os.cpu_count() or 1
    if on_gpu:
        return min(4, cores)
    return 1 if cores > 1 else 0
