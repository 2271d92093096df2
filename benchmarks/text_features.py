"""Text features of a catalog, from its texts to a float16 memmap.

Ways: ours, the whole embedding stage without photos (it also writes attributes and
token ids); sentence-transformers with its defaults; a plain transformers loop that pads
every text to 256 tokens. All cut texts at 256 tokens, in fp32 but for ours.
"""

import argparse
import shutil
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, least_cosine, main, median, parser

MAX_TOKENS = 256


def read_texts(given: argparse.Namespace) -> list[str]:
    from embed.catalog.reader import read_catalog
    from embed.text import compose_text, parse_fields

    catalog = read_catalog(given.data / "catalog.csv")
    return [compose_text(parse_fields(text)) for text in catalog.text]


def ours(given: argparse.Namespace) -> dict[str, Any]:
    from embed.catalog.reader import read_catalog
    from embed.config import EmbedConfig
    from embed.extract import extract

    shutil.rmtree(given.work / "embed", ignore_errors=True)
    manifest = extract(
        read_catalog(given.data / "catalog.csv"),
        given.work,
        images_dir=None,
        config=EmbedConfig(
            max_tokens=MAX_TOKENS,
            image_encoder=given.image_encoder,
            n_threads=given.threads,
        ),
    )
    return {"rows": manifest.n_products, "backend": manifest.backends["text"]}


def sentence_transformers(given: argparse.Namespace) -> dict[str, Any]:
    import torch
    from sentence_transformers import SentenceTransformer

    from embed.encoders.weights import find_text_weights

    torch.set_num_threads(given.threads)
    texts = read_texts(given)
    folder = find_text_weights("sentence-transformers/all-MiniLM-L6-v2")
    model = SentenceTransformer(str(folder), device="cpu")
    features = model.encode(texts, show_progress_bar=False)
    save(given, features)
    return {"rows": len(texts)}


def padded(given: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from embed.encoders.towers import mean_pool
    from embed.encoders.weights import find_text_weights

    torch.set_num_threads(given.threads)
    texts = read_texts(given)
    folder = find_text_weights("sentence-transformers/all-MiniLM-L6-v2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    features = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32],
                padding="max_length",
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            features.append(mean_pool(hidden, batch["attention_mask"]).numpy())
    save(given, np.concatenate(features))
    return {"rows": len(texts)}


def save(given: argparse.Namespace, features: np.ndarray) -> None:
    rows = np.lib.format.open_memmap(
        given.work / "text.npy", mode="w+", dtype=np.float16, shape=features.shape
    )
    rows[:] = features
    rows.flush()


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    folder = RESULTS / "text_features"
    cosine = least_cosine(
        folder / "ours" / "embed" / "text.npy", folder / "padded" / "text.npy"
    )
    seconds = {way: median(figures, "seconds") for way, figures in found.items()}
    rows = found["ours"][0]["rows"]
    return [
        f"| text features, {rows} texts of at most {MAX_TOKENS} tokens, {way} | "
        f"{rows / seconds[way]:.0f} texts/s | {seconds[way]:.1f} s | "
        f"{median(found[way], 'peak_mib'):.0f} MiB | "
        + (
            f"{found['ours'][0]['backend']}, least cosine {cosine:.4f} |"
            if way == "ours"
            else f"ours is {seconds[way] / seconds['ours']:.2f} times as fast |"
        )
        for way in found
    ]


WAYS = {
    "ours": ours,
    "sentence_transformers": sentence_transformers,
    "padded": padded,
}

if __name__ == "__main__":
    main("text_features", WAYS, summarise, options=parser(__doc__))
