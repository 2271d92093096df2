"""Check that no table column is made from the price."""

import numpy as np
from scipy.stats import rankdata

from embed.attributes import ATTRIBUTE_NAMES
from embed.table.encode import RARE, TableColumn, feature_names
from embed.table.giveaways import find_giveaway
from stack.audit.records import AuditedRun, Check


def check_table_columns(audited: AuditedRun) -> Check:
    """Look for table columns that give the price away, and for one made to do so."""
    embed, price = audited.run.embed, audited.price
    attributes = audited.run.array("embed/attributes")
    allowed = embed.inputs.columns.allowed
    columns, start = [], len(ATTRIBUTE_NAMES)
    places: list[int] = []
    for column in embed.table:
        stop = start + len(feature_names([column]))
        if column.name not in allowed:
            columns.append(column)
            places += range(start, stop)
        start = stop
    giveaway = find_giveaway(columns, attributes[:, np.array(places, np.intp)], price)
    shown = "no column gives the price away"
    if giveaway is not None:
        names, correlation = giveaway
        shown = (
            f"{' and '.join(names)} correlates with the log price by {correlation:.3f}"
        )
    # A category of two products each, next to each other by price.
    planted = (RARE + 1 + rankdata(price, "ordinal") // 2).astype(np.float32)
    made = TableColumn(name="made from the price", kind="category")
    is_detected = find_giveaway([made], planted[:, None], price) is not None
    return Check(
        name="table columns",
        passed=giveaway is None and is_detected,
        detail=f"{shown}; allowed: {', '.join(allowed) or 'none'}; a category made "
        f"from the price is {'' if is_detected else 'not '}found",
    )
