"""Each message that advises is printed by a test, which then does as it says.

The tests are in tests/test_remedies_*.py; what they share is in tests/remedies.py.
"""

import pytest
import test_remedies_catalog
import test_remedies_inputs
import test_remedies_options
import test_remedies_runs
from remedies import ADVICE_TRIED, TEMPLATES, texts_with

MODULES = (
    test_remedies_catalog,
    test_remedies_inputs,
    test_remedies_options,
    test_remedies_runs,
)

NOT_RUN = {  # part of a message: why nobody takes its advice here
}
COVERED = {text for part in (*ADVICE_TRIED, *NOT_RUN) for text in texts_with(part)}


@pytest.mark.parametrize(("where", "text"), sorted(TEMPLATES), ids=str)
def test_the_advice_of_a_message_is_taken_or_it_is_said_why_not(where, text):
    assert text in COVERED, f"{where}: {text}"


@pytest.mark.parametrize("part", NOT_RUN)
def test_what_is_not_run_is_a_message_and_is_not_run(part):
    assert texts_with(part)
    assert part not in ADVICE_TRIED
