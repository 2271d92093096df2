"""Price new products with the predictor that a finished run chose."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embed.catalog.reader import Catalog
from embed.chunks import Chunk, Inputs, Photo, screen_photo
from embed.encoders.embedder import Embedder, resolve_encoders
from embed.errors import ConfigError, UnreadableImage
from embed.machine import prepare_machine
from embed.photos.decode import as_stored
from embed.photos.files import PhotoMatches, match_photos
from embed.photos.stand_ins import known_stand_ins
from embed.store.arrays import to_float16
from finetune.serve import ServedNetworks, encode_once
from stack.blocks.fitted import block_matrix
from stack.price.engine import Encoded, Engine, Predicted
from stack.price.flags import flag_price
from stack.price.loading import load_engine, load_run_confidence
from stack.run import open_finished_run
from stack.trees.alignment import align
from stack.trees.matrix import BlockMatrix

logger = logging.getLogger(__name__)

# Products that one BLAS thread prices. More threads spin for 25 ms while they wait, and
# take half a core from the encoders: 56 instead of 42 ms for one product.
_FEW = 32
_BLAS_LIMIT = threading.Lock()


class Predictor:
    """A finished run, loaded once, that prices products in memory.

    The networks of all folds are averaged in log space. If the run's verdict chose the
    stacker, the average of the aligned fused embeddings is a feature of its boosters.

    Parameters
    ----------
    run_dir : Path
        Run folder with all three stages finished.
    n_threads : int
        Threads for arithmetic.
    folds : sequence of int, optional
        Folds whose networks and boosters predict; default: all. For a product of the
        run, only those of its own fold were not trained on its price.
    exact : bool
        Compute in float32 with eager PyTorch, whatever the run's settings.

    Attributes
    ----------
    run : Run
    config : EmbedConfig
        Settings for reading photos and texts.
    is_stacked : bool
        Whether the run chose the stacker.
    boosters : list of lightgbm.Booster
        They correct the networks; empty if the networks predict alone.
    confidence : Confidence
        Intervals and probabilities of the prices.
    trained : tuple of float
        Cheapest and dearest price of the run, catalog currency.

    Raises
    ------
    CacheError, WeightsError
        If the run is incomplete, or its encoders cannot be found.
    ConfigError
        If the run has no such fold.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        n_threads: int = 2,
        folds: Sequence[int] | None = None,
        exact: bool = False,
    ) -> None:
        prepare_machine(n_threads)
        finished = open_finished_run(run_dir, verify=("stack", "finetune"))
        self.run = run = finished.run
        self._finetune_config = finished.finetune_config
        self._stand_ins = known_stand_ins(run.embed)
        self._folds = _selected_folds(folds, self._finetune_config.n_folds)
        self.config = dataclasses.replace(run.embed.config, n_threads=n_threads)
        if exact:
            self.config = dataclasses.replace(
                self.config, precision="fp32", backend="eager"
            )
        self._source = resolve_encoders(self.config, run.embed)
        self._embedder = Embedder(self._source, self.config)
        self._networks = ServedNetworks.of_run(
            run.run_dir, run.embed, self._finetune_config, self._folds, self._source
        )
        self._alignment = run.array("stack/alignment")[self._folds].astype(np.float64)
        self._pool = ThreadPoolExecutor(n_threads)
        self._blas = ThreadpoolController()
        self._stack_config = finished.stack_config
        self.trained = run.price_range()
        self.is_stacked = finished.is_stacked
        engine = Engine(price_unit=run.price_unit)
        if self.is_stacked:
            engine = load_engine(run, self._stack_config.blocks, self._folds)
        self.confidence = load_run_confidence(
            run, finished.stack.confidence, self._folds
        )
        self._engine = dataclasses.replace(engine, confidence=self.confidence)
        trees = self._engine.trees
        # The engine uses less of LightGBM's boosters than explanations do.
        self.boosters = cast("list[lgb.Booster]", list(trees.boosters) if trees else [])

    def inputs(self, catalog: Catalog, images_dir: Path | None) -> Inputs:
        """Find the photos of a catalog."""
        reads_photos = self._source.image_spec is not None
        matches = match_photos(catalog, images_dir if reads_photos else None)
        for note in matches.notes:
            logger.info("%s", note)
        return self.inputs_of(catalog, matches)

    def inputs_of(self, catalog: Catalog, matches: PhotoMatches) -> Inputs:
        """Return what the products of a catalog are priced from."""
        return Inputs(
            catalog=catalog,
            photos=matches.paths,
            encoders=self._source,
            reasons=matches.reasons,
            table=tuple(self.run.embed.table),
            stand_ins=self._stand_ins,
        )

    def screen(self, photo: Photo) -> Photo:
        """Return a photo, or an error if the run treated it as a stand-in.

        A run without a photo encoder uses no photo.
        """
        if isinstance(photo, UnreadableImage):
            return photo
        if self._source.image_spec is None:
            return UnreadableImage("not used: the run has no photo encoder")
        return screen_photo(photo, self._stand_ins)

    def price(self, chunk: Chunk) -> NDArray[np.float64]:
        """Return the prices of some products, without the features behind them."""
        return self.predict(chunk).price

    def predict(self, chunk: Chunk) -> Predicted:
        """Price some products.

        Parameters
        ----------
        chunk : Chunk
            Result of `prepare_chunk`, or an item of `prepared_chunks` for a catalog.

        Returns
        -------
        Predicted
        """
        token_ids = self._embedder.tokenize(chunk.texts)
        photo_rows, thumbnails = _readable([*map(self.screen, chunk.thumbnails)])
        text, frozen_image, encoded = self._encode(token_ids, thumbnails)
        with self._one_blas_thread() if len(chunk.texts) <= _FEW else nullcontext():
            return self._predict(
                chunk,
                token_ids,
                text=text,
                frozen_image=frozen_image,
                encoded=encoded,
                photo_rows=photo_rows,
            )

    def doubts(self, predicted: Predicted) -> list[list[str]]:
        """Return the reasons to doubt each price, from `stack.price.flags`."""
        return [
            flag_price(float(price), float(factor), self.trained, unlike=bool(unlike))
            for price, factor, unlike in zip(
                predicted.price,
                predicted.network_factor,
                predicted.unlike,
                strict=True,
            )
        ]

    @contextmanager
    def _one_blas_thread(self) -> Iterator[None]:
        # The limit holds for the whole process. If two overlapped, the last to end
        # would restore the other's limit instead of the original one.
        with _BLAS_LIMIT, self._blas.limit(limits=1, user_api="blas"):
            yield

    def _predict(
        self,
        chunk: Chunk,
        token_ids: list[NDArray[np.int32]],
        *,
        text: NDArray[np.float32],
        frozen_image: NDArray[np.float32],
        encoded: list[NDArray[np.float32]],
        photo_rows: NDArray[np.intp],
    ) -> Predicted:
        from_folds = self._networks.price(
            encoded,
            token_ids,
            photo_rows,
            chunk.attributes,
            frozen_image=frozen_image,
        )
        has_photo = np.isin(np.arange(len(chunk.texts)), photo_rows)
        image_dim = self._embedder.image.dim
        image = np.zeros((len(chunk.texts), image_dim), dtype=np.float32)
        if self.is_stacked:
            image[photo_rows] = frozen_image
        return self._engine.predict(
            Encoded(
                texts=chunk.texts,
                attributes=chunk.attributes,
                has_photo=has_photo,
                network_log_prices=np.stack([log_price for log_price, _ in from_folds]),
                fused=[
                    align(fused, has_photo, rotation)
                    for (_, fused), rotation in zip(
                        from_folds, self._alignment, strict=True
                    )
                ],
                text=text,
                image=image,
            )
        )

    def _encode(
        self,
        token_ids: list[NDArray[np.int32]],
        thumbnails: list[NDArray[np.uint8]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[NDArray[np.float32]]]:
        """Return frozen text and image features, and outputs of the networks' towers.

        Frozen features that no model uses have no rows.
        """
        size = self._finetune_config.photo_size
        # Variants of one product share an array, which is compressed once.
        distinct = {id(pixels): pixels for pixels in thumbnails}
        read = {key: as_stored(pixels, size) for key, pixels in distinct.items()}
        photos = [read[id(pixels)] for pixels in thumbnails]
        image_is_read = self.is_stacked or self._finetune_config.freeze_image
        frozen = self._embedder
        jobs: list[Callable[[], NDArray[np.float32]]] = [
            partial(
                encode_once, frozen.text.encode, token_ids if self.is_stacked else []
            ),
            partial(
                encode_once, frozen.image.encode, thumbnails if image_is_read else []
            ),
            *self._networks.encoders(token_ids, photos),
        ]
        # OpenVINO releases Python's lock while it works, and one product does not use
        # all cores.
        run = self._pool.map if self._source.backend == "openvino" else map
        text, image, *encoded = run(lambda job: job(), jobs)
        return (
            to_float16(text, name="text").astype(np.float32),
            to_float16(image, name="image").astype(np.float32),
            encoded,
        )

    def matrix(self, blocks: dict[str, NDArray[np.float32]]) -> BlockMatrix:
        """Join blocks of features in the boosters' column order."""
        features = {name: blocks[name] for name in self._stack_config.blocks}
        return block_matrix(features, embed=self.run.embed)


def _selected_folds(folds: Sequence[int] | None, n_folds: int) -> list[int]:
    """Return the folds to use: all for None; raise for an empty selection."""
    selected = list(range(n_folds)) if folds is None else [int(fold) for fold in folds]
    if not selected or not set(selected) <= set(range(n_folds)):
        numbers = ", ".join(str(fold + 1) for fold in selected) or "none"
        raise ConfigError(
            f"--only-fold must be 1 to {n_folds}, got {numbers}. Leave it out to use "
            f"all. (In Python, folds are counted from 0 to {n_folds - 1}.)"
        )
    return selected


def _readable(
    photos: Sequence[Photo],
) -> tuple[NDArray[np.intp], list[NDArray[np.uint8]]]:
    """Return the products of a chunk that have a photo, and their thumbnails."""
    readable = [
        (row, photo)
        for row, photo in enumerate(photos)
        if not isinstance(photo, UnreadableImage)
    ]
    rows = np.array([row for row, _ in readable], dtype=np.intp)
    return rows, [photo for _, photo in readable]
