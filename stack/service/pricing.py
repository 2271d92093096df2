"""The predictor of the service, to be called from one thread."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from embed.chunks import Photo, prepare_chunk
from embed.errors import InputError, UnreadableImage
from embed.store.manifest import read_record, require_stage
from embed.table.encode import encode
from embed.text import MISSING_TEXT, compose_text, parse_fields
from stack.price.calibration import LEVELS, SHARES
from stack.price.predictor import Predictor
from stack.records import Report, StackManifest
from stack.run import REPORT_NAME
from stack.service.errors import ApiError, no_explanations
from stack.service.schemas import Explanation, Interval, Placeholder, PriceAnswer

if TYPE_CHECKING:
    from stack.explain.explanation import Explanation as ProductExplanation

logger = logging.getLogger(__name__)

N_SIMILAR = 5
N_WORDS = 8


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product to price for a client."""

    text: str
    photo: Photo
    cells: Mapping[str, str] = field(default_factory=dict)
    """Cells by table column."""

    sample_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A price, how sure it is, and the reasons to doubt it."""

    price: float
    ends: dict[int, tuple[float, float]]
    """Ends of the prediction interval by level."""

    within: dict[int, float]
    """Probability to be within so many percent of the true price."""

    unlike: bool
    flags: list[str]


def _score_of(run_dir: Path) -> float | None:
    report = read_record(run_dir / "stack" / REPORT_NAME, Report)
    scores = {row.name: row.smape for row in report.predictors} if report else {}
    return scores.get("chosen")


class Pricer:
    """A finished run that prices products and explains prices.

    Parameters
    ----------
    run_dir : Path
    n_threads : int
    only_fold : int, optional
        Price with the models of this fold alone.

    Raises
    ------
    CacheError, WeightsError
        If the run is incomplete, or its encoders cannot be found.
    ConfigError
        If the run has no such fold.
    """

    def __init__(
        self, run_dir: Path, *, n_threads: int, only_fold: int | None = None
    ) -> None:
        self.run_key = require_stage(run_dir, StackManifest).key
        folds = None if only_fold is None else [only_fold]
        self.predictor = Predictor(run_dir, n_threads=n_threads, folds=folds)
        self.smape = None if folds else _score_of(run_dir)
        self.image_size = self.predictor.config.photo_size
        self.table = self.predictor.run.embed.table
        self.chosen: Literal["network", "stacker"] = (
            "stacker" if self.predictor.is_stacked else "network"
        )

    def warm_up(self) -> None:
        """Price and explain one product: the first takes much longer than the next."""
        shape = (self.image_size, self.image_size, 3)
        product = Product(
            text="Item Name: Tea\nValue: 20\nUnit: Count",
            photo=np.full(shape, 127, dtype=np.uint8),
        )
        self.price([product])
        with contextlib.suppress(ApiError):  # prices do not need explanations
            self.explain(product)

    def price(self, products: Sequence[Product]) -> list[PriceAnswer]:
        """Price some products, in order."""
        products = [self._screened(product) for product in products]
        chunk = prepare_chunk(
            [product.text for product in products],
            [product.photo for product in products],
            decimal=self.predictor.config.decimal,
            table=self.table,
            cells=self._columns(products),
        )
        odd_cells: list[list[str]] = [[] for _ in products]
        for row, reason in (*chunk.unreadable, *chunk.rare):
            odd_cells[row].append(reason)
        predicted = self.predictor.predict(chunk)
        confidence = self.predictor.confidence
        ends = {level: confidence.bounds(predicted, level=level) for level in LEVELS}
        within = {percent: confidence.within(predicted, percent) for percent in SHARES}
        doubts = self.predictor.doubts(predicted)
        return [
            self._answer(
                product,
                Judged(
                    price=float(predicted.price[row]),
                    ends={
                        level: (float(low[row]), float(high[row]))
                        for level, (low, high) in ends.items()
                    },
                    within={
                        percent: float(probability[row])
                        for percent, probability in within.items()
                    },
                    unlike=bool(predicted.unlike[row]),
                    flags=doubts[row],
                ),
                odd_cells=odd_cells[row],
            )
            for row, product in enumerate(products)
        ]

    def explain(self, product: Product) -> PriceAnswer:
        """Price one product and explain its price.

        Raises
        ------
        ApiError
            503 if a file that explanations need is missing or damaged.
        """
        product = self._screened(product)
        try:
            found = self._explanation(product)
        except InputError as error:
            logger.warning("no explanations: %s", error)
            raise no_explanations() from None
        without_photo = found.image.without_photo_percent if found.image else None
        explanation = Explanation.model_validate(
            {**found.as_dict(), "without_photo_percent": without_photo}
        )
        ends = {
            level: (low, high)
            for level in LEVELS
            for low, high in [found.intervals[str(level)]]
        }
        features = encode(self.table, self._columns([product]), n_products=1)
        answer = self._answer(
            product,
            Judged(
                price=found.price,
                ends=ends,
                within={percent: found.within[str(percent)] for percent in SHARES},
                unlike=found.unlike,
                flags=found.flags,
            ),
            odd_cells=[reason for _, reason in (*features.unreadable, *features.rare)],
        )
        return answer.model_copy(update={"explanation": explanation})

    def _columns(self, products: Sequence[Product]) -> dict[str, list[str]]:
        """Return the cells of each table column."""
        return {
            column.name: [product.cells.get(column.name, "") for product in products]
            for column in self.table
        }

    def _screened(self, product: Product) -> Product:
        """Leave out a picture that the run treated as a stand-in."""
        return replace(product, photo=self.predictor.screen(product.photo))

    def _explanation(self, product: Product) -> "ProductExplanation":
        from stack.explain.explanation import explain_product  # late: not all need it

        photo = product.photo
        return explain_product(
            self.predictor,
            product.text,
            None if isinstance(photo, UnreadableImage) else photo,
            cells=product.cells,
            n_words=N_WORDS,
            n_similar=N_SIMILAR,
        )

    def _answer(
        self,
        product: Product,
        judged: Judged,
        *,
        odd_cells: Sequence[str],
    ) -> PriceAnswer:
        return PriceAnswer(
            sample_id=product.sample_id,
            price=judged.price,
            intervals=[
                Interval(level=level, price_low=low, price_high=high)
                for level, (low, high) in judged.ends.items()
            ],
            within_10=judged.within[10],
            within_20=judged.within[20],
            unlike=judged.unlike,
            predictor=self.chosen,
            placeholders=[
                *_placeholders(product),
                *(Placeholder(field="table", reason=reason) for reason in odd_cells),
            ],
            flags=judged.flags,
        )


def _placeholders(product: Product) -> list[Placeholder]:
    placeholders = []
    if compose_text(parse_fields(product.text)) == MISSING_TEXT:
        reason = "no letters or digits in it" if product.text.strip() else "none given"
        placeholders.append(Placeholder(field="text", reason=reason))
    if isinstance(product.photo, UnreadableImage):
        placeholders.append(Placeholder(field="image", reason=str(product.photo)))
    return placeholders
