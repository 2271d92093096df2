"""Trained networks whose towers run behind the backend of the frozen encoders."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.config import Backend
from embed.encoders.backends import FrozenTower, Tower, batch_sizes
from embed.encoders.towers import (
    ImageEncoder,
    ImageTower,
    TextEncoder,
    example_tokens,
    mean_pool,
    pad_tokens,
)
from embed.text import cut_tokens
from finetune.config import FinetuneConfig
from finetune.network.layers import can_be_split, lower_layers, upper_layers
from finetune.network.model import PriceNetwork, n_frozen_layers
from finetune.training.guards import require_finite_prices


class TextTowers(Tower):
    """Text backbones of several networks; layers that all share are computed once.

    Parameters
    ----------
    backbones : sequence of nn.Module
    n_shared : int
        First layers, with the embedding, that are the same in all of them.
    """

    def __init__(self, backbones: Sequence[nn.Module], *, n_shared: int) -> None:
        super().__init__()
        self.shared: nn.Module | None = None
        own = [copy.deepcopy(each) for each in backbones]
        if n_shared and can_be_split(own[0]):
            self.shared = lower_layers(own[0], n_shared)
            own = [upper_layers(each, n_shared) for each in own]
        self.own = nn.ModuleList(own)
        self.eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Turn int64 tokens and mask (batch, length) into (batch, networks * dim)."""
        given = {"input_ids": tokens}
        if self.shared is not None:
            hidden = self.shared(input_ids=tokens, attention_mask=mask)
            given = {"inputs_embeds": hidden.last_hidden_state}
        found = [own(**given, attention_mask=mask) for own in self.own]
        return torch.cat([mean_pool(f.last_hidden_state, mask) for f in found], dim=1)

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return inputs to trace with; one text is padded."""
        return example_tokens()


class ServedNetworks:
    """Price products with the networks of some folds.

    Parameters
    ----------
    networks : sequence of PriceNetwork
        Trained with one configuration, fold by fold and there seed by seed; on the CPU,
        in float32. Their backbones are taken from them.
    config : FinetuneConfig
        What they were trained with.
    backend, dtype, device
        Of the towers; projections and head run in float64.
    """

    def __init__(
        self,
        networks: Sequence[PriceNetwork],
        config: FinetuneConfig,
        *,
        backend: Backend,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._max_tokens, self._n_seeds = config.n_tokens, config.n_seeds
        self._sees_photos = config.sees_photos
        texts = [network.text_backbone for network in networks]

        def freeze(
            name: Literal["text", "image"], load: Callable[[], Tower]
        ) -> FrozenTower:
            return FrozenTower(
                load, name=name, backend=backend, dtype=dtype, device=device
            )

        def load_text() -> Tower:
            n_shared = n_frozen_layers(texts[0], config.freeze_layers)
            return TextTowers(texts, n_shared=n_shared)

        def load_image(backbone: nn.Module) -> Tower:
            return ImageTower(
                copy.deepcopy(backbone), size=config.image_size, exact_start=False
            )

        sizes = batch_sizes(backend, device)
        self._text = TextEncoder(
            freeze("text", load_text),
            dim=sum(network.text_projection.in_features for network in networks),
            batch_tokens=sizes.tokens,
        )
        self._images = [
            ImageEncoder(
                freeze("image", partial(load_image, network.image_backbone)),
                batch_images=sizes.images,
            )
            for network in networks
            if network.image_backbone is not None
        ]
        for network in networks:  # the compiled towers hold the weights anew
            network.text_backbone, network.image_backbone = nn.Identity(), None
            # Else a price depends on how many are asked for.
            network.text_projection.double()
            network.image_projection.double()
            network.head.double()
        self._networks = [network.eval() for network in networks]

    def encoders(
        self,
        token_ids: Sequence[NDArray[np.integer]],
        photos: Sequence[NDArray[np.uint8]],
    ) -> list[Callable[[], NDArray[np.float32]]]:
        """Return the towers' work on some products, to be called in any order.

        Parameters
        ----------
        token_ids : sequence of ndarray of int
            Of each product's text.
        photos : sequence of ndarray of uint8, shape (size, size, 3)
            Of the products that have one, at the size of the networks' training.

        Returns
        -------
        list of callable
            The text features of all networks side by side; then, if the networks have
            image towers and there are photos, the image features of each.
        """
        cut = [cut_tokens(ids, self._max_tokens) for ids in token_ids]
        images = self._images if len(photos) else []
        return [
            partial(encode_once, self._text.encode, cut),
            *(partial(encode_once, image.encode, photos) for image in images),
        ]

    @torch.no_grad()
    def price(
        self,
        encoded: Sequence[NDArray[np.float32]],
        token_ids: Sequence[NDArray[np.integer]],
        photo_rows: NDArray[np.integer],
        attributes: NDArray[np.float32],
        *,
        frozen_image: NDArray[np.float32] | None = None,
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Price and embed products with the networks of each fold.

        Parameters
        ----------
        encoded : sequence of ndarray
            What the calls of `encoders` returned.
        token_ids : sequence of ndarray of int
            That they were given.
        photo_rows : ndarray of shape (n_photos,)
            Which products have a photo.
        attributes : ndarray of shape (n_products, n_attributes), NaN: unknown
        frozen_image : ndarray of shape (n_photos, 1280), optional
            Frozen features of the photos, for networks trained on them.

        Returns
        -------
        list of (ndarray of shape (n_products,), ndarray of shape (n_products, 512))
            log1p price and fused embedding, by fold: the mean over the seeds and the
            embedding of the first.

        Raises
        ------
        TrainingError
            If a price or an embedding is not finite.
        """
        if not self._sees_photos:
            photo_rows = np.zeros(0, np.intp)
        texts = np.split(encoded[0], len(self._networks), axis=1)
        images: Sequence[NDArray[np.float32] | None] = encoded[1:]
        if not images:
            images = [frozen_image if len(photo_rows) else None] * len(texts)
        cut = [cut_tokens(ids, self._max_tokens) for ids in token_ids]
        tokens, mask = pad_tokens(cut or [np.zeros(0, np.int32)])
        tokens, mask = tokens[: len(cut)], mask[: len(cut)]
        known = torch.from_numpy(attributes)
        found = []
        for network, text, image in zip(self._networks, texts, images, strict=True):
            fused = network.combine(
                torch.from_numpy(np.ascontiguousarray(text)),
                torch.from_numpy(image) if image is not None else None,
                torch.from_numpy(np.asarray(photo_rows)),
            )
            wide = network.price_wide(tokens, mask, known)
            log_price = network.price(fused, known, wide).numpy()
            embedded = fused.float().numpy()
            rows = np.arange(len(log_price))
            require_finite_prices(log_price, embedded, rows=rows, sample_ids=None)
            found.append((log_price, embedded))
        folds = range(0, len(found), self._n_seeds)
        return [_average(found[at : at + self._n_seeds]) for at in folds]


def _average(
    of_seeds: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = np.mean([log_price for log_price, _ in of_seeds], axis=0)
    return mean, of_seeds[0][1]


def encode_once(
    encode: Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]],
    inputs: Sequence[NDArray[Any]],
) -> NDArray[np.float32]:
    """Encode equal inputs once.

    Parameters
    ----------
    encode : callable
        Of a `TextEncoder` or an `ImageEncoder`.
    inputs : sequence of ndarray
        All of one type; token ids, or photos of one shape.

    Returns
    -------
    ndarray of shape (len(inputs), dim)
    """
    first: dict[bytes, int] = {}
    keys = (
        hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
        for array in inputs
    )
    source = np.array([first.setdefault(k, at) for at, k in enumerate(keys)], np.intp)
    distinct, which = np.unique(source, return_inverse=True)
    features: NDArray[np.float32] = encode([inputs[at] for at in distinct])[which]
    return features
