"""Image features from JPEG files to a float16 memmap, 224 pixels.

Each file counts several times, as so many products, so that a short start weighs as
little as in a catalog of some thousands.

Ways: ours, the whole embedding stage on a catalog that has photos only (it also writes
thumbnails); exact, the same in eager fp32; plain, a loop of Pillow, torchvision's
transforms and an eager fp32 EfficientNet-B0, batch 64. Time counts from the imports to
the last byte written, the start of the encoders included.
"""

import argparse
import csv
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, least_cosine, main, median, parser

SIZE = 224
COPIES = 4


def photos_of(given: argparse.Namespace) -> list[Path]:
    folders = (given.data / "originals", given.data / "images")
    files = sorted(
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix.lower() in (".jpg", ".jpeg")
    )
    return files * COPIES


def embed(given: argparse.Namespace, *, backend: str, precision: str) -> dict[str, Any]:
    from embed.catalog.reader import read_catalog
    from embed.config import EmbedConfig
    from embed.extract import extract

    shutil.rmtree(given.work, ignore_errors=True)
    photos = given.work / "photos"
    photos.mkdir(parents=True)
    with (given.work / "catalog.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("sample_id", "catalog_content", "image_link"))
        for number, path in enumerate(photos_of(given)):
            shutil.copyfile(path, photos / f"{number}.jpg")
            lines.writerow((number, "", f"{number}.jpg"))
    started = time.perf_counter()
    manifest = extract(
        read_catalog(given.work / "catalog.csv"),
        given.work,
        images_dir=photos,
        config=EmbedConfig(
            image_encoder=given.image_encoder,
            image_size=SIZE,
            n_threads=given.threads,
            backend=backend,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
        ),
    )
    return {
        "rows": manifest.n_products,
        "backend": manifest.backends["image"],
        "seconds": time.perf_counter() - started,
    }


def ours(given: argparse.Namespace) -> dict[str, Any]:
    return embed(given, backend="auto", precision="auto")


def exact(given: argparse.Namespace) -> dict[str, Any]:
    return embed(given, backend="eager", precision="fp32")


def plain(given: argparse.Namespace) -> dict[str, Any]:
    import torch
    from PIL import Image
    from torchvision import transforms
    from torchvision.models import efficientnet_b0

    from embed.encoders.weights import read_image_weights

    torch.set_num_threads(given.threads)
    started = time.perf_counter()
    network = efficientnet_b0().eval()
    weights = read_image_weights(Path(given.image_encoder))
    network.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    prepare = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE)),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    paths = photos_of(given)
    rows = np.lib.format.open_memmap(
        given.work / "image.npy", mode="w+", dtype=np.float16, shape=(len(paths), 1280)
    )
    with torch.inference_mode():
        for start in range(0, len(paths), 64):
            batch = torch.stack(
                [
                    prepare(Image.open(path).convert("RGB"))
                    for path in paths[start : start + 64]
                ]
            )
            features = network.avgpool(network.features(batch)).flatten(1)
            rows[start : start + 64] = features.numpy()
    rows.flush()
    return {"rows": len(paths), "seconds": time.perf_counter() - started}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    paths = (RESULTS / "image_features" / way / "embed" for way in ("ours", "exact"))
    cosine = least_cosine(*(path / "image.npy" for path in paths))
    seconds = {way: median(figures, "seconds") for way, figures in found.items()}
    rows = found["ours"][0]["rows"]
    return [
        f"| image features, {rows} JPEG photos, {way} | {rows / seconds[way]:.0f} "
        f"photos/s | {seconds[way]:.1f} s | {median(found[way], 'peak_mib'):.0f} MiB | "
        + (
            f"{found['ours'][0]['backend']}, least cosine {cosine:.4f} |"
            if way == "ours"
            else f"ours is {seconds[way] / seconds['ours']:.2f} times as fast |"
        )
        for way in found
    ]


WAYS = {"ours": ours, "exact": exact, "plain": plain}

if __name__ == "__main__":
    main("image_features", WAYS, summarise, options=parser(__doc__))
