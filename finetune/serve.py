"""Price products with trained networks, on the backend of the frozen encoders."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.config import Backend
from embed.encoders.backends import FrozenTower, Tower, batch_sizes
from embed.encoders.embedder import EncoderSource
from embed.encoders.pooling import MEAN, pool_tokens
from embed.encoders.specs import Pooling
from embed.encoders.towers import (
    ImageEncoder,
    ImageTower,
    NoEncoder,
    TextEncoder,
    example_tokens,
    pad_tokens,
)
from embed.records import EmbedManifest
from embed.text import cut_tokens
from finetune.config import FinetuneConfig
from finetune.network.arithmetic import choose_arithmetic
from finetune.network.build import n_frozen_layers
from finetune.network.layers import can_be_split, lower_layers, upper_layers
from finetune.network.model import PriceNetwork
from finetune.network.saved import load_network
from finetune.training.guards import require_finite_prices


class TextTowers(Tower):
    """Text backbones of several networks; shared layers are computed once.

    Parameters
    ----------
    backbones : sequence of nn.Module
    n_shared : int
        Number of first layers, with the embedding, that are the same in all networks.
    pooling : sequence of str
    """

    def __init__(
        self,
        backbones: Sequence[nn.Module],
        *,
        n_shared: int,
        pooling: Sequence[Pooling] = MEAN,
    ) -> None:
        super().__init__()
        self.pooling = tuple(pooling)
        self.shared: nn.Module | None = None
        own = [copy.deepcopy(backbone) for backbone in backbones]
        if n_shared and can_be_split(own[0]):
            self.shared = lower_layers(own[0], n_shared)
            own = [upper_layers(backbone, n_shared) for backbone in own]
        self.own = nn.ModuleList(own)
        self.eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Turn int64 tokens and mask (batch, length) into (batch, networks * dim)."""
        inputs = {"input_ids": tokens}
        if self.shared is not None:
            hidden = self.shared(input_ids=tokens, attention_mask=mask)
            inputs = {"inputs_embeds": hidden.last_hidden_state}
        outputs = [own(**inputs, attention_mask=mask) for own in self.own]
        pooled = [
            pool_tokens(output.last_hidden_state, mask, self.pooling)
            for output in outputs
        ]
        return torch.cat(pooled, dim=1)

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return inputs to trace with; one text is padded."""
        return example_tokens()


class ServedNetworks:
    """Price products with the networks of some folds.

    Parameters
    ----------
    networks : sequence of PriceNetwork
        Networks of one configuration, ordered by fold, then seed; on the CPU, in
        float32. Their backbones are removed from them.
    config : FinetuneConfig
        Settings of their training.
    pad_id : int
        Token id that pads texts.
    backend, dtype, device
        Execution of the towers; projections and head run in float64.
    """

    def __init__(
        self,
        networks: Sequence[PriceNetwork],
        config: FinetuneConfig,
        *,
        backend: Backend,
        dtype: torch.dtype,
        device: torch.device,
        pad_id: int = 0,
    ) -> None:
        self._max_tokens, self._n_seeds = config.n_tokens, config.n_seeds
        self._sees_photos = config.sees_photos
        sizes = batch_sizes(backend, device)
        freeze = partial(FrozenTower, backend=backend, dtype=dtype, device=device)
        self._text: TextEncoder | NoEncoder = NoEncoder()
        texts = [
            backbone
            for network in networks
            if (backbone := network.text_backbone) is not None
        ]
        if texts:
            pooling = networks[0].pooling
            self._text = TextEncoder(
                freeze(_text_towers(texts, pooling, config), name="text"),
                dim=sum(network.text_dim for network in networks),
                batch_tokens=sizes.tokens,
                pad_id=pad_id,
            )
        self._images = [
            ImageEncoder(
                freeze(load_image, name="image"),
                batch_images=sizes.images,
                dim=network.image_dim,
            )
            for network in networks
            if (load_image := _image_tower(network, config)) is not None
        ]
        for network in networks:
            _drop_backbones(network)
        self._networks = [network.eval() for network in networks]

    @classmethod
    def of_run(
        cls,
        run_dir: Path,
        embed: EmbedManifest,
        config: FinetuneConfig,
        folds: Sequence[int],
        source: EncoderSource,
    ) -> Self:
        """Load the networks of some folds of a run.

        Parameters
        ----------
        run_dir : Path
        embed : EmbedManifest
            Manifest of the embedding stage.
        config : FinetuneConfig
            Settings of the networks.
        folds : sequence of int
        source : EncoderSource
            Backend, number format and device of the frozen encoders.

        Raises
        ------
        CacheError, WeightsError
            If a network is missing or damaged, or its encoders cannot be found.
        """
        networks = [
            load_network(
                run_dir / "finetune", fold, seed_at, embed=embed, config=config
            )
            for fold in folds
            for seed_at in range(config.n_seeds)
        ]
        arithmetic = choose_arithmetic(config.precision, source.device)
        is_exact = arithmetic.autocast_dtype is None
        return cls(
            networks,
            config,
            backend=source.backend,
            dtype=torch.float32 if is_exact else source.dtype,
            device=source.device,
            pad_id=source.text_spec.pad_id if source.text_spec else 0,
        )

    def encoders(
        self,
        token_ids: Sequence[NDArray[np.integer]],
        photos: Sequence[NDArray[np.uint8]],
    ) -> list[Callable[[], NDArray[np.float32]]]:
        """Return the towers' work on some products, to be called in any order.

        Parameters
        ----------
        token_ids : sequence of ndarray of int
            Token ids of each product's text.
        photos : sequence of ndarray of uint8, shape (size, size, 3)
            Photos of the products that have one, at the networks' image size.

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
            Results of the calls from `encoders`.
        token_ids : sequence of ndarray of int
            Token ids passed to `encoders`.
        photo_rows : ndarray of shape (n_photos,)
            Rows of the products that have a photo.
        attributes : ndarray of shape (n_products, n_attributes), NaN: unknown
        frozen_image : ndarray of shape (n_photos, image dim), optional
            Frozen features of the photos, for networks trained on them.

        Returns
        -------
        list of (ndarray of shape (n_products,), ndarray of shape (n_products, 512))
            log1p price (mean over the seeds) and fused embedding (first seed) of each
            fold.

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
        priced = []
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
            priced.append((log_price, embedded))
        folds = range(0, len(priced), self._n_seeds)
        return [_average(priced[first : first + self._n_seeds]) for first in folds]


def _text_towers(
    backbones: Sequence[nn.Module], pooling: Sequence[Pooling], config: FinetuneConfig
) -> Callable[[], Tower]:
    """Return a call that makes the tower of all networks' text backbones."""

    def load() -> Tower:
        n_shared = n_frozen_layers(backbones[0], config.freeze_layers)
        return TextTowers(backbones, n_shared=n_shared, pooling=pooling)

    return load


def _image_tower(
    network: PriceNetwork, config: FinetuneConfig
) -> Callable[[], Tower] | None:
    """Return a call that makes the tower of a network's photo backbone, if any."""
    backbone, spec = network.image_backbone, network.image_spec
    if backbone is None or spec is None:
        return None
    return lambda: ImageTower(
        copy.deepcopy(backbone), size=config.photo_size, spec=spec, exact_start=False
    )


def _drop_backbones(network: PriceNetwork) -> None:
    # The compiled towers have their own copy of the weights.
    network.text_backbone, network.image_backbone = None, None
    # In float32 a price would depend on the batch size.
    network.text_projection.double()
    network.image_projection.double()
    network.head.double()


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
        The `encode` method of a `TextEncoder` or an `ImageEncoder`.
    inputs : sequence of ndarray
        Token ids, or photos of one shape.

    Returns
    -------
    ndarray of shape (len(inputs), dim)
    """
    first: dict[bytes, int] = {}
    keys = (
        hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
        for array in inputs
    )
    source = np.array(
        [first.setdefault(key, place) for place, key in enumerate(keys)], np.intp
    )
    distinct, inverse = np.unique(source, return_inverse=True)
    features: NDArray[np.float32] = encode([inputs[place] for place in distinct])
    return features[inverse]
