"""The record of block `neighbours`: the recall of its approximate searches."""

from pydantic import RootModel

from embed.store.records import Record
from embed.store.rules import CountFromOne, Real, Text


class SpaceRecall(Record):
    """Recall of an approximate search in one space."""

    recall_at_10: Real
    """Share of the ten nearest products that the search finds, 0 to 1."""

    effort: CountFromOne
    """Effort of each search: of an index, the rows that it keeps at a time; of words,
    the largest number of products that a rare word is in."""


class SearchRecall(RootModel[dict[Text, SpaceRecall]]):
    """recall.json of the block: the spaces that are not searched exactly."""
