"""pytorch-widedeep: MiniLM with a head on top, by its Trainer.

Of MiniLM it trains the last two layers, as our recipe `default` does.
Photos are left out: its image component wants one of every product, and nine of ten
products of the Amazon catalog have none. A fold that has not ended in its share of the
time limit stops there.
"""

import argparse
import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from peer import out_of_fold, parse, read_products
from pytorch_widedeep import Trainer
from pytorch_widedeep.callbacks import Callback
from pytorch_widedeep.models import HFModel, WideDeep
from pytorch_widedeep.preprocessing import HFPreprocessor
from transformers import BertModel

N_TOKENS, N_EPOCHS, BATCH = 64, 4, 32


class OutOfTimeError(Exception):
    """The time limit has been reached."""


class TimeLimit(Callback):
    """Ends training after some seconds, within an epoch too."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def on_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the clock."""
        if time.monotonic() > self.end:
            raise OutOfTimeError


def copy_encoder(source: Path, to: Path) -> str:
    """Write the encoder in float32, in a folder whose name says what family it is."""
    BertModel.from_pretrained(source, torch_dtype=torch.float32).save_pretrained(to)
    for path in source.glob("*token*"):
        shutil.copy(path, to)
    shutil.copy(source / "vocab.txt", to)
    return str(to)


def fit(
    train: pd.DataFrame, held_out: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    texts = HFPreprocessor(
        given.encoder,
        use_fast_tokenizer=True,
        text_col="text",
        encode_params={
            "max_length": N_TOKENS,
            "padding": "max_length",
            "truncation": True,
        },
    )
    # Its mean pooling would average the padding too.
    text = HFModel(
        given.encoder,
        pooling_mode="cls",
        trainable_parameters=["encoder.layer.4.", "encoder.layer.5."],
        head_hidden_dims=[256, 64],
        head_dropout=0.1,
    )
    model = WideDeep(deeptext=text)
    steps = N_EPOCHS * -(-len(train) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-4, total_steps=steps)
    trainer = Trainer(
        model,
        objective="mae",
        optimizers=optimizer,
        lr_schedulers=schedule,
        callbacks=[TimeLimit(60 * given.minutes / given.n_folds)],
        device="cpu",
        num_workers=0,
        verbose=0,
        seed=0,
    )
    centre = train["log_price"].median()
    with contextlib.suppress(OutOfTimeError):
        trainer.fit(
            X_text=texts.fit_transform(train),
            target=(train["log_price"] - centre).to_numpy(np.float32),
            n_epochs=N_EPOCHS,
            batch_size=BATCH,
        )
    found = trainer.predict(X_text=texts.transform(held_out), batch_size=BATCH)
    return centre + found


if __name__ == "__main__":
    torch.set_num_threads(2)
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        options.encoder = copy_encoder(options.text_encoder, Path(folder) / "bert")
        products = read_products(options)
        options.n_folds = products["fold"].nunique()
        out_of_fold(products, options, fit)
