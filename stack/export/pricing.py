"""An exported model, ready to price. This file is copied into every export.

Beside the standard library it needs numpy, pillow, onnxruntime and tokenizers, and the
modules of `embed` that lie in the export too. A model with trees needs lightgbm. Where
the trees see prices of the products that the model learned from, it also needs
scikit-learn and the modules of `stack` that lie in the export.
"""

import hashlib
import importlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from embed.attributes import extract_attributes
from embed.errors import InputError
from embed.photos.decode import decode_thumbnail, encode_thumbnail, thumbnail_sha256
from embed.text import compose_text, parse_fields

if TYPE_CHECKING:
    import lightgbm

MANIFEST_NAME = "manifest.json"
PRICE_FLOOR = 0.01
"""The least price, in units of the model."""

_MAX_PULL = 0.5  # that of finetune.network.averaging
_RAW_BLOCKS = ("text", "image", "attributes")


class Model:
    """Graphs, trees and settings of an exported folder, loaded once.

    Parameters
    ----------
    folder : Path
        With manifest.json and the files that it names.

    Raises
    ------
    InputError
        If a file is missing or not as it was exported.
    """

    def __init__(self, folder: Path) -> None:
        self.settings = _read_settings(folder / MANIFEST_NAME)
        _require_whole(folder, self.settings["files"])
        options = onnxruntime.SessionOptions()
        # Threads that wait by spinning take the core that another one needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._graphs = {
            name: onnxruntime.InferenceSession(folder / name, options)
            for name in self.settings["files"]
            if name.endswith(".onnx")
        }
        self._boosters = {
            kind: [_load_booster(folder / name) for name in names]
            for kind, names in self.settings["boosters"].items()
        }
        self._price_blocks = _load_price_blocks(folder, self.settings)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.settings["max_tokens"])

    def log_price(self, text: str, photo: NDArray[np.uint8] | None) -> float:
        """Return the log1p price of one product, in units of the model.

        Parameters
        ----------
        text : str
            As the catalog has it.
        photo : ndarray of uint8, shape (image_size, image_size, 3), optional
            From `embed.photos.decode.load_image`; None if there is none.
        """
        if photo is not None and self._is_stand_in(photo):
            photo = None
        product = parse_fields(text)
        ids = np.array(self._tokenizer.encode(compose_text(product)).ids)
        blocks = {
            "attributes": extract_attributes(product, decimal=self.settings["decimal"])[
                None
            ],
            "image": np.zeros((1, self.settings["image_dim"]), np.float32),
        }
        if photo is not None and "frozen/image.onnx" in self._graphs:
            blocks["image"] = _half(self._photo("frozen", photo))
        seen = photo if self.settings["fold_sees_photos"] else None
        found = [
            [self._price(name, ids, seen, blocks) for name in of_fold]
            for of_fold in self.settings["folds"]
        ]
        network = _average([[log_price for log_price, _ in f] for f in found])
        fused = np.mean([of_fold[0][1] for of_fold in found], axis=0)
        if not self._boosters:
            return float(network[0])
        blocks["network"], blocks["fused"] = network[:, None], _half(fused)
        blocks["text"] = _half(self._text("frozen", ids))
        if "lightgbm" in self._boosters:
            raw = self._boost("lightgbm", blocks, _RAW_BLOCKS)
            start = self.settings["lightgbm_start"]
            blocks["lightgbm"] = np.array([[start + raw]], np.float32)
        blocks |= self._by_prices(compose_text(product), photo is not None, blocks)
        start = network
        if "start" in self.settings["blocks"]:
            start = self._blend(network, blocks["kernel"][:, 0])
            blocks["start"] = start[:, None]
        return float(start[0]) + self._boost("stacker", blocks, self.settings["blocks"])

    def to_price(self, log_price: float) -> float:
        """Return the price of a log1p price, in the catalog's currency."""
        unit: float = self.settings["price_unit"]
        return unit * max(math.expm1(log_price), PRICE_FLOOR)

    def _is_stand_in(self, photo: NDArray[np.uint8]) -> bool:
        """Tell whether a picture was taken for a stand-in when the run was embedded."""
        known = self.settings.get("stand_ins") or []
        return bool(known) and thumbnail_sha256(encode_thumbnail(photo)) in known

    def _blend(
        self, network: NDArray[np.float32], kernel: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return where the trees begin: log1p of two powers of prices, multiplied."""
        prices = np.expm1(np.stack([network, kernel]), dtype=np.float64)
        logs = np.log(np.maximum(prices, PRICE_FLOOR))
        blended = np.clip(self.settings["start_weights"] @ logs, -50, 50)
        start: NDArray[np.float32] = np.log1p(np.exp(blended)).astype(np.float32)
        return start

    def _by_prices(
        self, text: str, has_photo: bool, blocks: dict[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the blocks that are fitted on prices, as far as the trees see any."""
        if not self._price_blocks:
            return {}
        of = importlib.import_module("stack.blocks.products")
        features = of.Features(
            text=blocks["text"],
            image=blocks["image"],
            image_ok=np.array([has_photo]),
            fused=blocks["fused"],
            attributes=blocks["attributes"],
        )
        product = of.Products(texts=[text], features=features)
        return {n: block.predict(product) for n, block in self._price_blocks.items()}

    def _price(
        self,
        name: str,
        ids: NDArray[np.int64],
        photo: NDArray[np.uint8] | None,
        blocks: dict[str, NDArray[np.float32]],
    ) -> list[NDArray[np.float32]]:
        """Return the log price and embedding by one network.

        Of a fold's networks the first one's embedding alone is used and aligned.
        """
        limit, image = self.settings["fold_max_tokens"], blocks["image"]
        if len(ids) > limit:
            ids = np.append(ids[: limit - 1], ids[-1])
        if photo is not None and f"{name}/image.onnx" in self._graphs:
            image = self._photo(name, _resize(photo, self.settings["fold_image_size"]))
        return self._run(
            f"{name}/head.onnx",
            text=self._text(name, ids),
            image=image,
            has_photo=np.array([photo is not None]),
            attributes=blocks["attributes"],
            tokens=ids[None],
            mask=np.ones_like(ids)[None],
        )

    def _text(self, tower: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        mask = np.ones_like(ids)
        return self._run(f"{tower}/text.onnx", tokens=ids[None], mask=mask[None])[0]

    def _photo(self, tower: str, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._run(f"{tower}/image.onnx", pixels=photo[None])[0]

    def _run(
        self, graph: str, **inputs: NDArray[np.generic]
    ) -> list[NDArray[np.float32]]:
        session = self._graphs[graph]
        wanted = [given.name for given in session.get_inputs()]
        outputs: list[NDArray[np.float32]] = session.run(
            None, {name: inputs[name] for name in wanted}
        )
        return outputs

    def _less_base(
        self,
        name: str,
        blocks: dict[str, NDArray[np.float32]],
        chosen: list[str] | tuple[str, ...],
    ) -> NDArray[np.float32]:
        """Return a block as the trees see it: log prices less where these begin."""
        columns = self.settings["log_price_columns"].get(name)
        base = next((name for name in ("start", "network") if name in chosen), None)
        if not columns or base in (None, name):
            return blocks[name]
        found = blocks[name].astype(np.float32)
        found[:, columns] -= blocks[base].astype(np.float32)
        return found

    def _boost(
        self,
        kind: str,
        blocks: dict[str, NDArray[np.float32]],
        chosen: list[str] | tuple[str, ...],
    ) -> float:
        """Return what the boosters add, on average; one without trees adds nothing."""
        row = np.concatenate(
            [self._less_base(name, blocks, chosen) for name in chosen], axis=1
        )
        boosters = self._boosters[kind]
        grown = [booster for booster in boosters if booster.num_trees()]
        return sum(float(b.predict(row)[0]) for b in grown) / len(boosters)


def _load_price_blocks(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Load the blocks as all networks together may see them."""
    if not settings["price_blocks"]:
        return {}
    of = importlib.import_module("stack.blocks.products")
    known = {
        path.stem: np.load(path, mmap_mode="r")
        for path in (folder / "known").glob("*.npy")
    }
    prices = features = None  # what no block looks at is not there
    if known:
        prices = of.Prices(log_price=known.pop("log_price"), folds=known.pop("folds"))
    if known:
        features = of.Features(**known)
    folds = range(len(settings["folds"]))
    return {
        name: importlib.import_module(f"stack.blocks.{name}").load(
            folder / "blocks" / name, features, prices, folds
        )
        for name in settings["price_blocks"]
    }


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
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise InputError(
                f"{path}: has sha256 {found[:12]}, {expected[:12]} was exported. Copy "
                f"or export the model again."
            )


def _average(log_prices: Sequence[Sequence[NDArray[np.float32]]]) -> NDArray[Any]:
    """Average over the seeds of each fold, then over folds; a bad one cannot drag."""
    of_folds = np.array([np.mean(of_seeds, axis=0) for of_seeds in log_prices])
    middle = np.median(of_folds, axis=0)
    bounded = np.clip(of_folds, middle - _MAX_PULL, middle + _MAX_PULL)
    mean: NDArray[Any] = bounded.mean(axis=0, dtype=of_folds.dtype)
    return mean


def _half(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round as the boosters' training data were."""
    return features.astype(np.float16).astype(np.float32)


def _resize(photo: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Make a photo what the networks saw in training: by way of JPEG, smaller."""
    seen = Image.fromarray(decode_thumbnail(encode_thumbnail(photo)))
    return np.asarray(seen.resize((size, size), Image.Resampling.BILINEAR))
