"""Reuse the features of an earlier run for content that it has already encoded.

A feature depends on the content of a text or photo, the encoder's weights and how they
are computed. The features of a run are reused if its manifest shows the same weights,
settings and versions, and if the first products with known features have the same ones
when they are encoded here.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.chunks import Inputs
from embed.config import EmbedConfig
from embed.encoders.backends import plans_of
from embed.errors import CacheError
from embed.features import N_TRIALS
from embed.formats import FORMAT
from embed.photos.decode import NO_SHA256, photo_sha256
from embed.records import EmbedManifest
from embed.store.arrays import RaggedRows, read_rows
from embed.store.lock import run_lock
from embed.store.manifest import MANIFEST_NAME, environment, read_record
from embed.verify import verify_embedding

logger = logging.getLogger(__name__)

BEFORE = "embed-before"
"""Folder of a run that keeps the earlier features until the new ones are complete."""

_VERSIONS = {
    "text": ("torch", "transformers", "openvino"),
    "image": ("torch", "torchvision", "pillow", "openvino"),
}
"""Packages on which the features of each encoder depend."""


class KnownFeatures(Mapping[bytes, NDArray[np.float16]]):
    """Features of one encoder by the sha256 of their content.

    Parameters
    ----------
    features : ndarray of float16, shape (n_products, dim)
    sha256 : ndarray of uint8, shape (n_products, 32)
        sha256 of the content of each row.
    has_features : ndarray of bool, shape (n_products,)
    """

    def __init__(
        self,
        features: NDArray[Any],
        sha256: NDArray[Any],
        has_features: NDArray[Any],
    ) -> None:
        self.features = features
        self.row_of = {
            sha256[row].tobytes(): row for row in np.flatnonzero(has_features).tolist()
        }
        self.row_of.pop(NO_SHA256, None)

    def __getitem__(self, sha256: bytes) -> NDArray[np.float16]:
        features: NDArray[np.float16] = self.features[self.row_of[sha256]]
        return features

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self.row_of

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.row_of)

    def __len__(self) -> int:
        return len(self.row_of)


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Features and thumbnails of an earlier run that are the same in this one."""

    where: Path | None = None
    """Folder of the earlier embedding stage; None without one."""

    text: Mapping[bytes, NDArray[np.float16]] = field(default_factory=dict)
    image: Mapping[bytes, NDArray[np.float16]] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    """Backend of each encoder with known features, to go on with."""

    thumbnails: RaggedRows | None = None
    _decoded: set[bytes] = field(default_factory=set)

    def is_known(self, sha256: bytes) -> bool:
        """Tell whether a photo need not be decoded; a few are, for comparison."""
        if sha256 in self.image and len(self._decoded) < N_TRIALS:
            self._decoded.add(sha256)
        return sha256 in self.image and sha256 not in self._decoded

    def thumbnail(self, sha256: bytes) -> bytes | None:
        """Return the JPEG of a photo with known features, None for other photos."""
        if not isinstance(self.image, KnownFeatures) or self.thumbnails is None:
            return None
        row = self.image.row_of.get(sha256)
        return None if row is None else self.thumbnails[row].tobytes()

    def without(self, kind: str) -> "Reuse":
        """Return what is left if this machine computes other features of a kind."""
        assert self.where is not None
        _mention(self.where, kind, "this machine computes others")
        backends = {name: b for name, b in self.backends.items() if name != kind}
        return Reuse(
            where=self.where,
            text={} if kind == "text" else self.text,
            image={} if kind == "image" else self.image,
            backends=backends,
            thumbnails=self.thumbnails,
        )


@contextmanager
def held(reuse: Path | None, run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run whose features are reused, where it can be written.

    Raises
    ------
    CacheError
        If the run has no finished embedding stage.
    LockedError
        If another process works on it.
    """
    if reuse is None or _is_same(reuse, run_dir):
        yield
        return
    if finished_folder(reuse) is None:
        raise CacheError(
            f"--reuse {reuse}: must be a run with a finished embedding stage, has no "
            f"{Path('embed', MANIFEST_NAME)}. Name another run, or leave --reuse out."
        )
    with ExitStack() as stack:
        with suppress(OSError):  # nobody can change a run that is read-only
            stack.enter_context(run_lock(reuse))
        yield


def finished_folder(run_dir: Path) -> Path | None:
    """Return the folder of a run's finished embedding stage, None without one."""
    folders = (run_dir / "embed", run_dir / BEFORE)
    return next((f for f in folders if (f / MANIFEST_NAME).is_file()), None)


def open_reuse(
    reuse: Path | None,
    run_dir: Path,
    *,
    inputs: Inputs,
    config: EmbedConfig,
    parts: Mapping[str, Any],
) -> Reuse:
    """Open the features that a new embedding stage of a run can reuse.

    The finished stage of the run itself is moved to `BEFORE` first, so that it stays
    whole until the new one is complete.

    Parameters
    ----------
    reuse : Path, optional
        Run to reuse; None is the run itself, if it can be reused.
    run_dir : Path
    inputs : Inputs
    config : EmbedConfig
    parts : mapping
        Key parts of the new stage.

    Raises
    ------
    CacheError
        If the run that `reuse` names is damaged.
    """
    folder = finished_folder(reuse or run_dir)
    if folder is None:
        return Reuse()
    try:
        manifest = _read_whole(folder)
    except CacheError as error:
        if reuse is None or folder.name == BEFORE:
            logger.info("%s: is damaged, so nothing in it is reused.", folder)
            return Reuse()
        raise CacheError(
            f"--reuse {reuse}: must be whole, however {error} Or leave --reuse out."
        ) from error
    reasons = {
        kind: _difference(kind, manifest, inputs, config, parts) for kind in _VERSIONS
    }
    for kind, reason in reasons.items():
        if reason:
            _mention(folder, kind, reason)
    if all(reasons.values()):
        return Reuse()
    if folder == run_dir / "embed":
        remove_before(run_dir)
        folder = folder.rename(run_dir / BEFORE)
    return _open(folder, manifest, [kind for kind in reasons if not reasons[kind]])


def photos_changed(inputs: Inputs, stage_dir: Path, n_rows: int) -> bool:
    """Tell whether a photo of the first rows has other bytes than those recorded."""
    recorded = read_rows(stage_dir / "image_sha256.npy")
    with ThreadPoolExecutor() as pool:
        found = pool.map(
            lambda path: NO_SHA256 if path is None else photo_sha256(path),
            inputs.photos[:n_rows],
        )
        return any(
            sha256 != recorded[row].tobytes() for row, sha256 in enumerate(found)
        )


def remove_before(run_dir: Path) -> None:
    """Delete the earlier features, when the new ones are complete."""
    if (run_dir / BEFORE).is_dir():
        shutil.rmtree(run_dir / BEFORE)


def _read_whole(folder: Path) -> EmbedManifest:
    """Return the manifest of a finished stage after a check of its files."""
    manifest = read_record(folder / MANIFEST_NAME, EmbedManifest)
    assert manifest is not None, "the stage is finished"
    if manifest.inputs.format != FORMAT:
        return manifest
    verify_embedding(folder, manifest)
    for kind in _VERSIONS:
        features, sha256 = _arrays(folder, kind)
        is_right = (
            features.dtype == np.float16
            and features.ndim == 2
            and sha256.dtype == np.uint8
            and sha256.shape == (len(features), len(NO_SHA256))
        )
        if not is_right:
            raise CacheError(
                f"{folder}: {kind}.npy and {kind}_sha256.npy do not have the shapes "
                f"that the stage writes."
            )
    return manifest


def _arrays(folder: Path, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    return read_rows(folder / f"{kind}.npy"), read_rows(folder / f"{kind}_sha256.npy")


def _open(folder: Path, manifest: EmbedManifest, kinds: Sequence[str]) -> Reuse:
    known: dict[str, KnownFeatures] = {}
    for kind in kinds:
        if manifest.backends.get(kind) is None:
            continue  # a run without photos
        features, sha256 = _arrays(folder, kind)
        has_features = np.ones(len(features), np.bool_)
        if kind == "image":
            has_features = read_rows(folder / "image_ok.npy")
        known[kind] = KnownFeatures(features, sha256, has_features)
    return Reuse(
        where=folder,
        text=known.get("text", {}),
        image=known.get("image", {}),
        backends={kind: str(manifest.backends[kind]) for kind in known},
        thumbnails=RaggedRows(folder / "thumbnails.npy") if "image" in known else None,
    )


def _difference(
    kind: str,
    manifest: EmbedManifest,
    inputs: Inputs,
    config: EmbedConfig,
    parts: Mapping[str, Any],
) -> str:
    """Return why the features of a run would be others here; "" if they are equal."""
    if manifest.inputs.format != FORMAT:
        return "another version of pricestack computed them"
    if inputs.encoders.device.type != "cpu":
        return "on a GPU, features depend on the other products of a batch"
    before, versions = manifest.inputs, environment()
    weights = f"{kind}_weights_sha256"
    pairs: list[tuple[str, object, object]] = [
        ("the encoder's weights", getattr(before, weights), parts[weights]),
        ("the number format", before.dtype, parts["dtype"]),
        ("--backend", before.backend, parts["backend"]),
        *(
            (f"the version of {name}", manifest.environment.get(name), versions[name])
            for name in _VERSIONS[kind]
        ),
    ]
    if kind == "image":
        pairs.append(("--image-size", manifest.config.image_size, config.image_size))
    if parts[weights] == "random":
        pairs.append(("--seed", manifest.config.seed, config.seed))
    for name, old, new in pairs:
        if old != new:
            return f"{name} was {str(old)[:12]}, is now {str(new)[:12]}"
    used = manifest.backends.get(kind)
    plans = plans_of(inputs.encoders.backend, inputs.encoders.dtype)
    if used is not None and used not in map(str, plans):
        return f"{used} computed them"
    return ""


def _mention(folder: Path, kind: str, reason: str) -> None:
    features = "texts" if kind == "text" else "photos"
    logger.info("%s: features of %s are not reused: %s.", folder, features, reason)


def _is_same(reuse: Path, run_dir: Path) -> bool:
    return reuse.resolve() == run_dir.resolve()
