"""Build batches of similar text length from cached tokens and thumbnails."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embed.encoders.towers import pad_tokens
from embed.photos.decode import read_thumbnail
from embed.store.arrays import RaggedRows, read_rows, release_rows
from embed.text import cut_tokens

_POOL_BATCHES = 32  # number of batches whose rows are sorted by length together


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs of the network for one batch of products."""

    tokens: torch.Tensor  # int64 (batch, length)
    mask: torch.Tensor  # int64 (batch, length)
    photos: torch.Tensor  # uint8 (n_images, size, size, 3), or float32 features
    image_rows: torch.Tensor  # int64 (n_images,)
    attributes: torch.Tensor  # float32 (batch, n_attributes), NaN: unknown
    hidden: torch.Tensor | None = None  # float16 (batch, length, dim)
    wide: torch.Tensor | None = None  # float32 (batch,), log price of the wide part

    def to(self, device: torch.device) -> "Batch":
        """Move all tensors to a device."""
        moved: dict[str, Any] = {
            name: None if tensor is None else tensor.to(device)
            for name, tensor in vars(self).items()
        }
        return Batch(**moved)

    def split(self, size: int) -> Iterator["Batch"]:
        """Yield micro-batches of at most `size` products."""
        for start in range(0, len(self.tokens), size):
            stop = min(start + size, len(self.tokens))
            inside = (self.image_rows >= start) & (self.image_rows < stop)
            yield Batch(
                tokens=self.tokens[start:stop],
                mask=self.mask[start:stop],
                photos=self.photos[inside],
                image_rows=self.image_rows[inside] - start,
                attributes=self.attributes[start:stop],
                hidden=None if self.hidden is None else self.hidden[start:stop],
                wide=None if self.wide is None else self.wide[start:stop],
            )


class ProductCache:
    """The embedding stage's arrays for fine-tuning, memory-mapped.

    Parameters
    ----------
    embed_dir : Path
        Folder of a finished embedding stage.
    max_tokens : int
        Texts are cut to this many tokens; the closing token stays.
    image_size : int
        Side of the photos, pixels.
    frozen_photos : bool
        Whether batches contain frozen features instead of photos.
    use_photos : bool
        If False, no product has a photo.
    pad_id : int
        Token id that pads texts.

    Attributes
    ----------
    hidden : RaggedRows or None
        Output of the text tower's frozen layers for each text, if computed.
    """

    def __init__(
        self,
        embed_dir: Path,
        *,
        max_tokens: int,
        image_size: int,
        frozen_photos: bool = False,
        use_photos: bool = True,
        pad_id: int = 0,
    ) -> None:
        self.tokens = RaggedRows(embed_dir / "tokens.npy")
        self.thumbnails = RaggedRows(embed_dir / "thumbnails.npy")
        self.attributes = read_rows(embed_dir / "attributes.npy")
        self.image_ok = read_rows(embed_dir / "image_ok.npy")
        if not use_photos:
            self.image_ok = np.zeros_like(self.image_ok)
        self._features = read_rows(embed_dir / "image.npy") if frozen_photos else None
        self.hidden: RaggedRows | None = None
        self._text_ok_path = embed_dir / "text_ok.npy"
        self.max_tokens, self.pad_id = max_tokens, pad_id
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def text_ok(self) -> NDArray[np.bool_]:
        """Whether each product has a usable text, shape (n_products,)."""
        return read_rows(self._text_ok_path)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text after the cut, shape (n_products,)."""
        return np.minimum(self.tokens.lengths, self.max_tokens)

    def batch(
        self,
        rows: NDArray[np.integer],
        *,
        augment: np.random.Generator | None = None,
        image_dropout: float = 0.0,
        wide: NDArray[np.float32] | None = None,
    ) -> Batch:
        """Load products as a batch.

        Parameters
        ----------
        rows : ndarray of shape (batch,)
            Catalog rows.
        augment : Generator, optional
            Random numbers to crop and mirror the photos; None leaves them whole.
        image_dropout : float, optional
            Share of the photos to leave out at random; ignored without `augment`.
        wide : ndarray of shape (n_products,), optional
            Log prices to use instead of those from the network's wide part.
        """
        tokens, mask = self.text_batch(rows)
        with_photo = np.flatnonzero(self.image_ok[rows])
        if augment is not None and image_dropout:
            with_photo = with_photo[augment.random(len(with_photo)) >= image_dropout]
        return Batch(
            tokens=tokens,
            mask=mask,
            photos=self._photos(rows[with_photo], augment),
            image_rows=torch.from_numpy(with_photo),
            attributes=torch.from_numpy(np.array(self.attributes[rows])),
            hidden=self._hidden_states(rows, mask),
            wide=None if wide is None else torch.from_numpy(wide[rows]),
        )

    def text_batch(
        self, rows: NDArray[np.integer]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Load token ids and their mask, int64 tensors of shape (batch, length)."""
        return pad_tokens(
            [cut_tokens(self.tokens[int(row)], self.max_tokens) for row in rows],
            self.pad_id,
        )

    def _hidden_states(
        self, rows: NDArray[np.integer], mask: torch.Tensor
    ) -> torch.Tensor | None:
        if self.hidden is None:
            return None
        states = [
            self.hidden[int(row)].reshape(length, -1)
            for row, length in zip(rows, mask.sum(1).tolist(), strict=True)
        ]
        padded = np.zeros((*mask.shape, states[0].shape[1]), np.float16)
        for place, state in enumerate(states):
            padded[place, : len(state)] = state
        release_rows(self.hidden.flat)
        return torch.from_numpy(padded)

    def _photos(
        self, rows: NDArray[np.integer], augment: np.random.Generator | None
    ) -> torch.Tensor:
        if self._features is not None:
            return torch.from_numpy(self._features[rows].astype(np.float32))
        size = self.image_size
        pixels = np.zeros((len(rows), size, size, 3), dtype=np.uint8)
        for place, row in enumerate(rows):
            jpeg = self.thumbnails[int(row)].tobytes()
            pixels[place] = read_thumbnail(jpeg, size, augment=augment)
        return torch.from_numpy(pixels)


def shuffled_batches(
    rows: NDArray[np.integer],
    lengths: NDArray[np.integer],
    *,
    batch_size: int,
    rng: np.random.Generator,
) -> list[NDArray[np.integer]]:
    """Shuffle rows into batches of similar text length, in random order.

    Parameters
    ----------
    rows : ndarray of shape (n_train,)
        Catalog rows to visit, each once.
    lengths : ndarray of shape (n_products,)
        Tokens of every text of the catalog.
    batch_size : int
        Approximate size of each batch; at least 2 rows if there are that many.
    rng : Generator
        Generator; the same state gives the same batches.
    """
    shuffled = rng.permutation(rows)
    batches: list[NDArray[np.integer]] = []
    bounds = [*range(0, len(shuffled), batch_size * _POOL_BATCHES), len(shuffled)]
    # A batch of one row cannot be normalised.
    if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    for start, stop in itertools.pairwise(bounds):
        pool = shuffled[start:stop]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        n_batches = max(1, min(round(len(pool) / batch_size), len(pool) // 2))
        batches.extend(np.array_split(pool, n_batches))
    return [batches[place] for place in rng.permutation(len(batches))]


def sorted_batches(
    rows: NDArray[np.integer], lengths: NDArray[np.integer], *, batch_size: int
) -> list[NDArray[np.integer]]:
    """Cut rows into batches of similar text length, in a fixed order."""
    order = rows[np.argsort(lengths[rows], kind="stable")]
    return [
        order[start : start + batch_size] for start in range(0, len(order), batch_size)
    ]
