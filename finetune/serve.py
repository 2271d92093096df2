"""A trained network whose towers run behind the backend of the frozen encoders."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from embed.backends import FrozenTower, Tower, batch_sizes
from embed.config import Backend
from embed.encoders import ImageEncoder, ImageTower, TextEncoder, TextTower
from finetune.batches import cut_tokens
from finetune.config import FinetuneConfig
from finetune.guards import require_finite_prices
from finetune.model import PriceNetwork


class ServedNetwork:
    """Price products with one fold's network.

    Parameters
    ----------
    network : PriceNetwork
        Trained; on the CPU, in float32.
    config : FinetuneConfig
        What it was trained with.
    backend, dtype, device
        Of the towers; projections and head run in float32.
    """

    def __init__(
        self,
        network: PriceNetwork,
        config: FinetuneConfig,
        *,
        backend: Backend,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._max_tokens = config.max_tokens

        def freeze(
            name: Literal["text", "image"], load: Callable[[], Tower]
        ) -> FrozenTower:
            return FrozenTower(
                load, name=name, backend=backend, dtype=dtype, device=device
            )

        def load_text() -> Tower:
            return TextTower(copy.deepcopy(network.text_backbone))

        def load_image() -> Tower:
            backbone = copy.deepcopy(network.image_backbone)
            assert backbone is not None
            return ImageTower(backbone, size=config.image_size)

        sizes = batch_sizes(backend, device)
        self._text = TextEncoder(
            freeze("text", load_text),
            dim=network.text_projection.in_features,
            batch_tokens=sizes.tokens,
        )
        self._image = None
        if network.image_backbone is not None:
            tower = freeze("image", load_image)
            self._image = ImageEncoder(tower, batch_images=sizes.images)
        self._network = network.eval()

    @torch.no_grad()
    def price(
        self,
        token_ids: Sequence[NDArray[np.integer]],
        photos: Sequence[NDArray[np.uint8]],
        photo_rows: NDArray[np.integer],
        attributes: NDArray[np.float32],
        *,
        frozen_image: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Price and embed products.

        Parameters
        ----------
        token_ids : sequence of ndarray of int
            Of each product's text.
        photos : sequence of ndarray of uint8, shape (size, size, 3)
            Of the products that have one, at the size of the network's training.
        photo_rows : ndarray of shape (len(photos),)
            Which those are.
        attributes : ndarray of shape (n_products, n_attributes), NaN: unknown
        frozen_image : ndarray of shape (len(photos), 1280), optional
            Frozen features of the photos, for a network trained on them.

        Returns
        -------
        log_price : ndarray of shape (n_products,), log1p price
        fused : ndarray of shape (n_products, 512)

        Raises
        ------
        TrainingError
            If a price or an embedding is not finite.
        """
        limit = self._max_tokens
        cut = [cut_tokens(ids, limit) for ids in token_ids]
        text = encode_once(self._text.encode, cut)
        image = frozen_image
        if self._image is not None and len(photos):
            image = encode_once(self._image.encode, photos)
        fused = self._network.combine(
            torch.from_numpy(text),
            torch.from_numpy(image) if image is not None and len(photos) else None,
            torch.from_numpy(np.asarray(photo_rows)),
        )
        log_price = self._network.price(fused, torch.from_numpy(attributes)).numpy()
        rows = np.arange(len(log_price))
        require_finite_prices(log_price, fused.numpy(), rows=rows, sample_ids=None)
        return log_price, fused.numpy()


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
