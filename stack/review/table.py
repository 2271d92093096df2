"""Write suspects as a CSV file."""

import csv
import io

from embed.catalog.amounts import csv_amount
from stack.review.reasons import LABELS
from stack.review.review import Review, Suspect

_COLUMNS = (
    *("rank", "sample_id", "name", "price", "expected", "low", "high", "factor"),
    *("difference", "units", "money", "suspicion", "reason", "evidence"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NAME_CHARS = 200


def review_csv(review: Review) -> bytes:
    """Return the suspects as CSV, in their order; `units` only with units sold."""
    columns = [name for name in _COLUMNS if review.with_units or name != "units"]
    text = io.StringIO()
    lines = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    lines.writeheader()
    for rank, suspect in enumerate(review.suspects, start=1):
        lines.writerow({"rank": rank, **_cells(suspect)})
    return text.getvalue().encode("utf-8", "replace")


def plain_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; numbers stay."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return "'" + text
    return text


def _cells(suspect: Suspect) -> dict[str, str]:
    return {
        "sample_id": plain_cell(suspect.sample_id),
        "name": plain_cell(suspect.name[:_NAME_CHARS]),
        "price": csv_amount(suspect.price),
        "expected": csv_amount(suspect.expected),
        "low": csv_amount(suspect.low),
        "high": csv_amount(suspect.high),
        "factor": f"{suspect.factor:.4g}",
        "difference": f"{suspect.difference:.4f}",
        "units": "" if suspect.units is None else f"{suspect.units:.15g}",
        "money": "" if suspect.money is None else f"{suspect.money:.4f}",
        "suspicion": suspect.suspicion,
        "reason": LABELS[suspect.kind],
        "evidence": plain_cell(suspect.evidence),
    }
