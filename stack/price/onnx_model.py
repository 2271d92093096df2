"""An exported model, loaded for prices: ONNX runs the towers, the engine the rest.

Beside the standard library it needs numpy, pillow, onnxruntime and tokenizers. A model
with trees needs lightgbm; trees with blocks fitted on prices also need scikit-learn and
pydantic.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embed.attributes import extract_attributes
from embed.errors import InputError
from embed.photos.decode import as_stored, encode_thumbnail, thumbnail_sha256
from embed.table.encode import TableColumn, encode
from embed.text import compose_text, cut_tokens, parse_fields
from stack.blocks.block import PriceBlock
from stack.blocks.inputs import Features, Known, Prices
from stack.blocks.registry import PRICE_BLOCKS, RAW_BLOCKS
from stack.price.confidence import CONFIDENCE_DIR, Confidence, load_confidence
from stack.price.engine import Booster, Encoded, Engine, Predicted, Trees, half

if TYPE_CHECKING:
    import lightgbm

MANIFEST_NAME = "manifest.json"


class Model:
    """Graphs, trees and settings of an exported folder, loaded once.

    Parameters
    ----------
    folder : Path
        Exported folder with manifest.json and the files that it lists.

    Raises
    ------
    InputError
        If a file is missing or differs from the exported one.
    """

    def __init__(self, folder: Path) -> None:
        self.settings = _read_settings(folder / MANIFEST_NAME)
        _require_whole(folder, self.settings["files"])
        options = onnxruntime.SessionOptions()
        # Spinning threads would take cores that other threads need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._graphs = {
            name: onnxruntime.InferenceSession(folder / name, options)
            for name in self.settings["files"]
            if name.endswith(".onnx")
        }
        self.table = [
            TableColumn(**{name: _frozen(value) for name, value in column.items()})
            for column in self.settings["table"]
        ]
        self.confidence = _load_confidence(folder, self.settings)
        self._engine = replace(
            _load_engine(folder, self.settings), confidence=self.confidence
        )
        self._tokenizer: Tokenizer | None = None
        if self.settings["text_dim"]:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(self.settings["max_tokens"])

    def predict(
        self,
        text: str,
        photo: NDArray[np.uint8] | None,
        cells: Mapping[str, str] | None = None,
    ) -> Predicted:
        """Price one product.

        Parameters
        ----------
        text : str
            Catalog text.
        photo : ndarray of uint8, shape (image_size, image_size, 3), optional
            Pixels from `embed.photos.decode.load_image`; None without a photo.
        cells : mapping of str to str, optional
            Cells by table column; a column that is missing is unknown.

        Returns
        -------
        Predicted
            Prediction with one row.
        """
        sees_photos = self.settings["image_dim"] > 0
        if photo is not None and not (sees_photos and not self._is_stand_in(photo)):
            photo = None
        product = parse_fields(text)
        composed = compose_text(product)
        ids = self._token_ids(composed)
        sizes = extract_attributes(product, decimal=self.settings["decimal"])
        columns = {name: [cell] for name, cell in (cells or {}).items()}
        table = encode(self.table, columns, n_products=1).array
        attributes = np.hstack([sizes[None], table])
        image = np.zeros((1, self.settings["image_dim"]), np.float32)
        if photo is not None and "frozen/image.onnx" in self._graphs:
            image = half(self._photo("frozen", photo), name="image")
        photo_of_folds = photo if self.settings["fold_sees_photos"] else None
        by_fold = [
            [
                self._price(name, ids, photo_of_folds, image, attributes)
                for name in names
            ]
            for names in self.settings["folds"]
        ]
        return self._engine.predict(
            Encoded(
                texts=[composed],
                attributes=attributes,
                has_photo=np.array([photo is not None]),
                network_log_prices=np.array(
                    [
                        np.mean([log_price for log_price, _ in seed_outputs], axis=0)
                        for seed_outputs in by_fold
                    ]
                ),
                fused=[seed_outputs[0][1] for seed_outputs in by_fold],
                text=self._text("frozen", ids) if self.settings["boosters"] else None,
                image=image,
            )
        )

    def log_price(
        self,
        text: str,
        photo: NDArray[np.uint8] | None,
        cells: Mapping[str, str] | None = None,
    ) -> float:
        """Return the log1p price of one product, in units of the model.

        The parameters are those of `predict`.
        """
        return float(self.predict(text, photo, cells).log_price[0])

    def _is_stand_in(self, photo: NDArray[np.uint8]) -> bool:
        """Return whether the run treated this picture as a stand-in."""
        stand_ins = self.settings.get("stand_ins") or []
        if not stand_ins:
            return False
        return thumbnail_sha256(encode_thumbnail(photo)) in stand_ins

    def _price(
        self,
        name: str,
        ids: NDArray[np.integer],
        photo: NDArray[np.uint8] | None,
        image: NDArray[np.float32],
        attributes: NDArray[np.float32],
    ) -> list[NDArray[np.float32]]:
        """Return the log price and the aligned embedding by one network."""
        ids = cut_tokens(ids, self.settings["fold_max_tokens"])
        if photo is not None and f"{name}/image.onnx" in self._graphs:
            small = as_stored(photo, self.settings["fold_image_size"])
            image = self._photo(name, small)
        return self._run(
            f"{name}/head.onnx",
            text=self._text(name, ids),
            image=image,
            has_photo=np.array([photo is not None]),
            attributes=attributes,
            tokens=ids[None],
            mask=np.ones_like(ids)[None],
        )

    def _token_ids(self, text: str) -> NDArray[np.int64]:
        if self._tokenizer is None:
            return np.zeros(0, np.int64)
        return np.array(self._tokenizer.encode(self.settings["text_prefix"] + text).ids)

    def _text(self, tower: str, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        if self._tokenizer is None:
            return np.zeros((1, 0), np.float32)
        mask = np.ones_like(ids)
        return self._run(f"{tower}/text.onnx", tokens=ids[None], mask=mask[None])[0]

    def _photo(self, tower: str, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._run(f"{tower}/image.onnx", pixels=photo[None])[0]

    def _run(
        self, graph: str, **inputs: NDArray[np.generic]
    ) -> list[NDArray[np.float32]]:
        session = self._graphs[graph]
        names = [node.name for node in session.get_inputs()]
        outputs: list[NDArray[np.float32]] = session.run(
            None, {name: inputs[name] for name in names}
        )
        return outputs


def _load_engine(folder: Path, settings: dict[str, Any]) -> Engine:
    boosters = {
        kind: [_load_booster(folder / name) for name in names]
        for kind, names in settings["boosters"].items()
    }
    if not boosters:
        return Engine(price_unit=settings["price_unit"])

    def trees(loaded: Sequence[Booster], blocks: Sequence[str]) -> Trees:
        columns = settings["log_price_columns"]
        return Trees(boosters=loaded, blocks=blocks, log_price_columns=columns)

    raw_trees = weights = None
    if "lightgbm" in boosters:
        raw_trees = trees(boosters["lightgbm"], RAW_BLOCKS)
    if "start_weights" in settings:
        weights = np.array(settings["start_weights"])
    return Engine(
        price_unit=settings["price_unit"],
        trees=trees(boosters["stacker"], settings["blocks"]),
        raw_trees=raw_trees,
        raw_start=settings.get("lightgbm_start", 0.0),
        start_weights=weights,
        n_categories=settings["n_categories"],
        price_blocks=load_price_blocks(folder, settings),
    )


def _load_confidence(folder: Path, settings: dict[str, Any]) -> Confidence:
    folder = folder / CONFIDENCE_DIR
    record = settings["confidence"]
    return load_confidence(
        folder,
        record,
        boosters=[_load_booster(path) for path in sorted(folder.glob("booster-*.txt"))],
        log_price_columns=settings["log_price_columns"],
        price_unit=settings["price_unit"],
    )


def load_price_blocks(folder: Path, settings: dict[str, Any]) -> dict[str, PriceBlock]:
    """Load the blocks that are fitted on prices, with the prices of all folds."""
    arrays = {
        path.stem: np.load(path, mmap_mode="r")
        for path in (folder / "known").glob("*.npy")
    }
    known = Known()
    if arrays:
        prices = Prices(log_price=arrays.pop("log_price"), folds=arrays.pop("folds"))
        known = Known(prices=prices, features=Features(**arrays) if arrays else None)
    folds = range(len(settings["folds"]))
    return {
        name: PRICE_BLOCKS[name].load(folder / "blocks" / name, known, folds)
        for name in settings["price_blocks"]
    }


def _frozen(value: Any) -> Any:
    """Return the tuple that JSON keeps as a list; other values as they are."""
    return tuple(value) if isinstance(value, list) else value


def _load_booster(path: Path) -> "lightgbm.Booster":
    try:
        import lightgbm
    except ImportError:
        raise InputError(
            "the trees of this model need lightgbm, which is not installed. Run `pip "
            "install lightgbm`"
        ) from None
    return lightgbm.Booster(model_file=path)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: is not whole ({error}). Copy or export the model again."
        ) from error
    return settings


def _require_whole(folder: Path, files: dict[str, str]) -> None:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: is missing. Copy or export the model again.")
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != expected:
            raise InputError(
                f"{path}: has sha256 {checksum[:12]}, {expected[:12]} was exported. "
                f"Copy or export the model again."
            )
