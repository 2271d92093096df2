"""The page to work through suspects: one HTML file with style, script and photos."""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed.text import compose_text, parse_fields
from stack.html_report.products import photo_uris, shorten
from stack.price.similar import PricedProducts, SimilarProduct
from stack.review.reasons import LABELS
from stack.review.review import CLASSES, Review, Suspect
from stack.run import FinishedRun
from stack.tell.template import load_template

N_SIMILAR = 5

_TEMPLATES = Path(__file__).with_name("templates")
_BASE_STYLE = _TEMPLATES.parents[1] / "html_report" / "templates" / "report.css"


@dataclass(frozen=True, kw_only=True)
class Card:
    """A suspect as the page shows it."""

    suspect: Suspect
    label: str
    """Reason, as people read it."""

    text: str
    photo: str | None
    """JPEG as a data URI."""

    similar: Sequence[SimilarProduct]

    @property
    def distance(self) -> float:
        """Present over expected price or the reverse, 1 or above."""
        return max(self.suspect.factor, 1 / self.suspect.factor)

    @property
    def low_at(self) -> float:
        """Place of the interval's low end on the scale, percent from the left."""
        return self._at(self.suspect.low)

    @property
    def high_at(self) -> float:
        """Place of the interval's high end."""
        return self._at(self.suspect.high)

    @property
    def expected_at(self) -> float:
        """Place of the expected price."""
        return self._at(self.suspect.expected)

    @property
    def price_at(self) -> float:
        """Place of the present price."""
        return self._at(self.suspect.price)

    def _at(self, price: float) -> float:
        low = math.log(min(self.suspect.low, self.suspect.price))
        high = math.log(max(self.suspect.high, self.suspect.price))
        return round(100 * (math.log(price) - low) / (high - low), 2)


def render_page(finished: FinishedRun, review: Review, *, n_rows: int) -> bytes:
    """Return the page of the first suspects, in UTF-8.

    Parameters
    ----------
    finished : FinishedRun
    review : Review
    n_rows : int
        Largest number of products on the page; each with a photo adds about 8 kB.

    Raises
    ------
    CacheError
        If thumbnails, embeddings or the catalog are damaged.
    """
    script = (_TEMPLATES / "review.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    cards = _cards(finished, review.suspects[:n_rows])
    kinds = {card.suspect.kind for card in cards}
    page = load_template(_TEMPLATES / "review.html.j2").render(
        run_name=finished.run.run_dir.resolve().name,
        key=finished.stack.key,
        review=review,
        cards=cards,
        n_high=sum(suspect.suspicion == "high" for suspect in review.suspects),
        classes=[(name, name) for name, _ in CLASSES],
        kinds=[(kind, label) for kind, label in LABELS.items() if kind in kinds],
        base_style=_BASE_STYLE.read_text(encoding="utf-8"),
        style=(_TEMPLATES / "review.css").read_text(encoding="utf-8"),
        script=script,
        script_sha256=base64.b64encode(digest).decode(),
    )
    # A file name may contain characters that UTF-8 cannot encode.
    return page.encode("utf-8", "replace")


def _cards(finished: FinishedRun, suspects: Sequence[Suspect]) -> list[Card]:
    if not suspects:
        return []
    run = finished.run
    rows = np.array([suspect.row for suspect in suspects])
    texts = run.catalog().text
    has_photo = np.asarray(run.array("embed/image_ok"))[rows]
    products, fused = PricedProducts(run), run.array("stack/fused")
    return [
        Card(
            suspect=suspect,
            label=LABELS[suspect.kind],
            text=shorten(compose_text(parse_fields(texts[suspect.row]))),
            photo=photo if is_photo else None,  # a stand-in has a thumbnail too
            similar=products.nearest(
                fused[suspect.row], n=N_SIMILAR, exclude_group_of=suspect.row
            ),
        )
        for suspect, photo, is_photo in zip(
            suspects, photo_uris(run, rows), has_photo, strict=True
        )
    ]
