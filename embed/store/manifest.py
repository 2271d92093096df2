"""Read and write JSON records, among them the manifests of stages.

A manifest is written last, by rename, so a stage with a manifest has finished.
"""

import hashlib
import json
import platform
import shlex
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from embed.errors import CacheError
from embed.store.durable import write_bytes

if TYPE_CHECKING:
    from pydantic import BaseModel

    from embed.store.records import Manifest, Record

MANIFEST_NAME = "manifest.json"
_PACKAGES = (
    "pricestack",
    "torch",
    "torchvision",
    "transformers",
    "lightgbm",
    "numpy",
    "pillow",
    "openvino",
)
_TARGETS = {"embed": "embeddings", "finetune": "finetune", "stack": "stack"}
AnyRecord = TypeVar("AnyRecord", bound="BaseModel")
AnyManifest = TypeVar("AnyManifest", bound="Manifest")
_SAMPLE_RUN = Path("runs/sample")  # `make` needs no CATALOG for this run


def write_record(path: Path, record: "Record") -> None:
    """Write a record whole or not at all."""
    write_json(path, record.as_json())


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    # A path that is not UTF-8 has lone surrogates, which become JSON escapes.
    write_bytes(path, (text + "\n").encode(errors="backslashreplace"))


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; return None if the file does not exist.

    Raises
    ------
    CacheError
        If the file exists and is not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CacheError(
            f"{path}: not readable as JSON ({error}). Delete the file and run the "
            f"stage again."
        ) from error
    if not isinstance(record, dict):
        raise CacheError(
            f"{path}: must be a JSON object. Delete it and run the stage again."
        )
    return record


def read_record(
    path: Path, kind: type[AnyRecord], *, key: str | None = None
) -> AnyRecord | None:
    """Read a record.

    Parameters
    ----------
    path : Path
    kind : type
        Class of the record.
    key : str, optional
        Key that the record must have.

    Returns
    -------
    Record or None
        None if the file does not exist or has another key.

    Raises
    ------
    CacheError
        If the file exists and is not such a record.
    """
    from embed.store.records import check_record  # late: exports lack pydantic

    record = read_json(path)
    if record is None or (key is not None and record.get("key") != key):
        return None
    return check_record(record, path, kind)


def require_utf8(run_dir: Path) -> None:
    """Refuse a run folder whose path is not UTF-8, which safetensors cannot open.

    Raises
    ------
    CacheError
        If the path is not UTF-8.
    """
    path = str(run_dir.absolute())
    if any("\ud800" <= character <= "\udfff" for character in path):
        raise CacheError(
            f"{path}: the path of a run folder must be UTF-8. Rename the folder "
            f"whose name is not, or choose a run folder elsewhere."
        )


def require_stage(run_dir: Path, kind: type[AnyManifest]) -> AnyManifest:
    """Return the manifest of a finished stage.

    Parameters
    ----------
    run_dir : Path
    kind : type
        Class of the stage's manifest.

    Raises
    ------
    CacheError
        If the stage has not finished in this run folder, or the path is not UTF-8.
    """
    require_utf8(run_dir)
    stage = kind.STAGE
    manifest = read_record(run_dir / stage / MANIFEST_NAME, kind)
    if manifest is None:
        missing = "" if run_dir.is_dir() else ", because there is no such folder"
        raise CacheError(
            f"{run_dir / stage}: this stage has not finished in the run{missing}. "
            f"Run `{make_command(run_dir, stage)}` first, or name another run."
        )
    return manifest


def require_same_key(run_dir: Path, stage: str, found: str, expected: str) -> None:
    """Refuse a stage whose inputs differ from those now in the run.

    Parameters
    ----------
    run_dir : Path
    stage : str
        Stage to refuse.
    found : str
        Key of the inputs, from the stage's manifest.
    expected : str
        Key of the stage before it, from that stage's manifest.

    Raises
    ------
    CacheError
        If the keys differ; the message names both.
    """
    if found != expected:
        raise CacheError(
            f"{run_dir / stage}: made from inputs with key {found[:12]}, but the run "
            f"now has {expected[:12]}. Run `{make_command(run_dir, stage)}` to make "
            f"it again."
        )


def make_command(run_dir: Path, stage: str) -> str:
    """Return the shell command that runs a stage of a run."""
    catalog = " CATALOG=FILE" if stage == "embed" and run_dir != _SAMPLE_RUN else ""
    return f"make {_TARGETS[stage]} RUN={shlex.quote(str(run_dir))}{catalog}"


def remedy(path: Path) -> str:
    """Return the advice on a damaged stage or export, given a path in it."""
    stages = (folder for folder in (path, *path.parents) if folder.name in _TARGETS)
    if (stage_dir := next(stages, None)) is None:  # a file of an exported model
        return "Copy the exported model again from where it was made."
    command = make_command(stage_dir.parent, stage_dir.name)
    return (
        f"Delete the folder {stage_dir} and run `{command}` again, with the same "
        f"options as before."
    )


def content_key(parts: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of a mapping as JSON, whatever the order of its keys."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def sha256_strings(strings: Iterable[str]) -> str:
    """Return the sha256 (hex) of a sequence of strings and their lengths."""
    digest = hashlib.sha256()
    for string in strings:
        encoded = string.encode("utf-8", "surrogatepass")
        digest.update(f"{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment() -> dict[str, str]:
    """Return the versions of Python and packages that a result depends on."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
