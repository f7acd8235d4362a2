"""Prepared tracklets -> pairs -> augmented clips -> batches, read ahead by Grain.

Axes: `B` pairs, `N` clips, `T` frames, `H W` frame. A clip reader gives the arrays of one drawn clip, whose first axis
is the clip's frames; padding them to T, the mask and the stacking are done here. The default reader decodes frames; one
that looks up cached features has the same shape.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grain
import numpy as np
from absl import flags
from jaxtyping import Shaped

from reid_jax import workers
from reid_jax.config import DataConfig
from reid_jax.frames import decode_clip
from reid_jax.protocols import View
from reid_jax.sampling import Augmentation, ClipDraw, PairIndex, draw_pair, index_pairs
from reid_jax.tracklets import Tracklets

Batch = dict[str, Shaped[np.ndarray, "..."]]
ClipReader = Callable[[ClipDraw], Mapping[str, Shaped[np.ndarray, "T ..."]]]

READ_AHEAD = 4
"""Batches decoded ahead of the one in use: what bounds the memory."""
ENDLESS = 2**62
SHORTEST_BUCKET = 4


@dataclass(frozen=True)
class FrameReader:
    """The default clip reader: `frames`, uint8 [T, H, W, 3] in RGB."""

    tracklets: Tracklets
    height: int
    width: int

    def __call__(self, draw: ClipDraw) -> dict[str, np.ndarray]:
        encoded, name = self.tracklets.encoded(draw.row), self.tracklets.table.name[draw.row]
        frames = decode_clip(encoded, draw.frames, self.height, self.width, draw.augmentations, name)
        return {"frames": frames}


@dataclass(frozen=True)
class PairReader:
    """Element j of one process's share -> the arrays of its pair, before stacking."""

    index: PairIndex
    data: DataConfig
    seed: int
    read_clip: ClipReader
    batch_pairs: int
    process_index: int
    process_count: int

    def __call__(self, element: int) -> Batch:
        share = self.batch_pairs // self.process_count
        batch, place = divmod(int(element), share)
        i = batch * self.batch_pairs + self.process_index * share + place
        pair = draw_pair(self.index, self.seed, i, self.data)
        clips = [pad_clip(self.read_clip(draw), self.data.frames) for draw in pair.clips]
        return {
            **stack_clips(clips),
            "same": np.array(pair.same),
            "person": np.array(pair.persons, np.int32),
            "row": np.array([draw.row for draw in pair.clips], np.int32),
        }


def training_batches(
    tracklets: Tracklets,
    data: DataConfig,
    batch_pairs: int,
    seed: int,
    read_clip: ClipReader | None = None,
    *,
    first_batch: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Endless mini-batches of pairs, half of them of one person in two cameras.

    A batch is `frames` uint8 [B, 2, T, H, W, 3] (or what `read_clip` gives), `mask` bool [B, 2, T], `same` bool [B],
    `person` int32 [B, 2] (counted from 0 among the train persons) and `row` int32 [B, 2]. Batch k follows from the seed
    and k alone: `data.workers` changes nothing in it, and `first_batch=k` goes on where k batches ended. The iterator's
    `get_state()` is plain JSON but fits the same number of workers only. Close the iterator after use; a script that
    uses workers needs the `if __name__ == "__main__"` guard.

    Args:
        tracklets: the train persons' tracklets.
        data: clip length, frame size, augmentation and workers.
        batch_pairs: B over all processes, even; each of them is given its B / process_count pairs of every batch.
        seed: seed of the data order.
        read_clip: reads one clip's arrays (default: decodes its frames); picklable where there are workers.
        first_batch: number of the batch to begin with.
        process_index: which share this process reads.
        process_count: how many processes train together.

    Raises:
        ValueError: no pairs can be drawn (see `index_pairs`), or `batch_pairs` cannot be divided.
    """
    if batch_pairs < 2 or batch_pairs % 2 or batch_pairs % process_count:
        raise ValueError(
            f"batch_pairs is {batch_pairs}; half of a mini-batch is positive, and each of {process_count} processes "
            "reads an equal share of it: set an even multiple of the processes"
        )
    read_clip = read_clip or FrameReader(tracklets, data.height, data.width)
    index = index_pairs(tracklets.table)
    reader = PairReader(index, data, seed, read_clip, batch_pairs, process_index, process_count)
    share = batch_pairs // process_count
    pairs = grain.MapDataset.range(first_batch * share, ENDLESS).map(reader)
    batches = pairs.batch(share)
    if data.workers == 0:
        return iter(batches.to_iter_dataset(_read_ahead()))
    if not flags.FLAGS.is_parsed():
        # Grain asks absl for its settings when a worker starts, which fails in programs that do not use absl.
        flags.FLAGS.mark_as_parsed()
    alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    several = grain.MultiprocessingOptions(num_workers=data.workers, per_worker_buffer_size=2)
    return iter(batches.to_iter_dataset(alone).mp_prefetch(several, worker_init_fn=workers.stand_apart))


@dataclass(frozen=True)
class Bucket:
    """What one evaluation batch holds: `draws`, padded to `clips` clips of `frames` frames."""

    draws: Sequence[ClipDraw]
    clips: int
    frames: int


@dataclass(frozen=True)
class BucketReader:
    """Some clips of one bucket -> one process's share of a batch of N clips, the missing ones empty."""

    read_clip: ClipReader
    process_index: int
    process_count: int

    def __call__(self, bucket: Bucket) -> Batch:
        share, missing = bucket.clips // self.process_count, bucket.clips - len(bucket.draws)
        first = self.process_index * share
        # A share without clips needs the shape of one.
        draws = bucket.draws[first : first + share] or bucket.draws[:1]
        clips = [pad_clip(self.read_clip(draw), bucket.frames) for draw in draws]
        empty = {key: np.zeros_like(array) for key, array in clips[0].items()}
        clips = clips if first < len(bucket.draws) else []
        rows = [draw.row for draw in bucket.draws] + [-1] * missing
        return {**stack_clips(clips + [empty] * (share - len(clips))), "row": np.array(rows, np.int32)}


def evaluation_batches(
    tracklets: Tracklets,
    height: int,
    width: int,
    embed_frames: int,
    embed_batch: int,
    condition: Augmentation,
    view: View,
    read_clip: ClipReader | None = None,
    *,
    multiple: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Every tracklet once, in batches of clips of similar length.

    A batch is `frames` uint8 [N, T, H, W, 3] (or what `read_clip` gives), `mask` bool [N, T] and `row` int32 [N], -1
    for the empty clips that fill up a bucket's last batch. T is a power of two from 4 on, or `embed_frames` where that
    is less, and N the same for every batch of that T. Of several processes each gets its own N / process_count clips,
    and all of `row`.

    Args:
        tracklets: what to read.
        height: H in pixels.
        width: W in pixels.
        embed_frames: longest clip (0: whole tracklets).
        embed_batch: N x T at most, unless a single clip has more, or N has to be larger to be a multiple.
        condition: done to all frames (see `frames.evaluation_conditions`).
        view: where a longer tracklet's clip lies: `last` takes its last frames, the others its first.
        read_clip: reads one clip's arrays (default: decodes its frames).
        multiple: N is a multiple of this, the devices that share a batch.
        process_index: which share this process reads.
        process_count: how many processes embed together; it divides `multiple`.

    Raises:
        ValueError: a tracklet without frames, or `first` or `last` without a number of frames.
    """
    reader = BucketReader(read_clip or FrameReader(tracklets, height, width), process_index, process_count)
    plan = plan_buckets(tracklets, embed_frames, embed_batch, condition, view, multiple)
    return iter(grain.MapDataset.source(plan).map(reader).to_iter_dataset(_read_ahead()))


def plan_buckets(
    tracklets: Tracklets, embed_frames: int, embed_batch: int, condition: Augmentation, view: View, multiple: int = 1
) -> list[Bucket]:
    """The batches of `evaluation_batches`, before reading: buckets from short to long, rows in order."""
    if view != "whole" and embed_frames < 1:
        raise ValueError(f"the view {view!r} needs embed_frames above 0, the number of frames to take")
    buckets: dict[int, list[ClipDraw]] = {}
    for row, length in enumerate(tracklets.table.length.tolist()):
        if length < 1:
            raise ValueError(f"tracklet {tracklets.table.name[row]} has no frames; prepare the data set again")
        longest = embed_frames or length
        count = min(length, longest)
        frames = max(SHORTEST_BUCKET, _power_of_two(count))
        if embed_frames:
            frames = min(frames, embed_frames)
        start = length - count if view == "last" else 0
        buckets.setdefault(frames, []).append(ClipDraw(row, start, count, condition))
    plan = []
    for frames, draws in sorted(buckets.items()):
        clips = max(1, min(embed_batch // frames, _power_of_two(len(draws))))
        clips += -clips % multiple
        plan += [Bucket(draws[at : at + clips], clips, frames) for at in range(0, len(draws), clips)]
    return plan


def pad_clip(arrays: Mapping[str, np.ndarray], frames: int) -> Batch:
    """A clip's arrays, zero-padded at the end to `frames` frames, and its `mask`, True for its own frames."""
    lengths = {key: len(array) for key, array in arrays.items()}
    count = next(iter(lengths.values()))
    if set(lengths.values()) != {count} or count > frames:
        raise ValueError(f"a clip reader gave arrays of {lengths} frames; all need the same, {frames} at most")
    padded = {
        key: np.concatenate([array, np.zeros((frames - count, *array.shape[1:]), array.dtype)])
        for key, array in arrays.items()
    }
    return {**padded, "mask": np.arange(frames) < count}


def clips_of(batch: Batch) -> Batch:
    """What a network takes of a batch: all but the rows that its clips have in their table."""
    return {name: value for name, value in batch.items() if name != "row"}


def stack_clips(clips: Sequence[Batch]) -> Batch:
    """Padded clips -> arrays with the clips as the first axis."""
    return {key: np.stack([clip[key] for clip in clips]) for key in clips[0]}


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _read_ahead() -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=min(READ_AHEAD, os.cpu_count() or 1), prefetch_buffer_size=READ_AHEAD)
