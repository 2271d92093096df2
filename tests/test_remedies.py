"""Each message that advises is printed by a test, which then does as it says.

The tests are in tests/test_remedies_*.py; what they share is in tests/remedies.py.
"""

import pytest
import test_remedies_catalog
import test_remedies_inputs
import test_remedies_options
import test_remedies_runs
import test_remedies_start
import test_remedies_time
import test_remedies_training
from remedies import ADVICE_TRIED, TEMPLATES, texts_with

MODULES = (
    test_remedies_catalog,
    test_remedies_inputs,
    test_remedies_options,
    test_remedies_runs,
    test_remedies_start,
    test_remedies_time,
    test_remedies_training,
)

_HELP = "help of an option, no message"
_PYTHON = "from Python alone: on the command line click sees to it"
_LOSS = "no loss of tiny networks overflows; tests/test_finetune_guards.py makes one"
_FP16 = "gradients in fp16 need CUDA"
NOT_RUN = {  # part of a message: why its advice is not taken here
    "Decimal sign of the prices: with . 1,299": _HELP,
    "Price only with the models of this fold": _HELP,
    "Column that --table auto leaves out": _HELP,
    "Column of units sold; the money at stake": _HELP,
    "File with the ids and the column of --units-column": _HELP,
    "Column of dates, so that `finetune`": _HELP,
    "Hold out the products of this date, such as": _HELP,
    "anyone can use the service unless you give": _HELP,
    "Send it; who runs the service has the key": "tests/test_stack_service_access.py "
    "sends it",
    "is not the network that --start-from names": "the files are checked just before; "
    "only another process can change them meanwhile",
    "Values of table columns were changed by --table": "no advice: what --table did",
    "features must be finite and below": "features that overflow less precise "
    "arithmetic alone need an encoder that makes them",
    "Look at these products, lower the learning rates": _LOSS,
    "tensors of the network are not finite after it": _LOSS,
    "price or embedding is not finite for": _LOSS,
    "Try --precision fp32 or bf16, or lower": _FP16,
    "no batch could be learned from": _FP16,
    "does not price its own training products": "so small a network is sound, or its "
    "embedding runs away before",
}
COVERED = {text for part in (*ADVICE_TRIED, *NOT_RUN) for text in texts_with(part)}


@pytest.mark.parametrize(("where", "text"), sorted(TEMPLATES), ids=str)
def test_the_advice_of_a_message_is_taken_or_it_is_said_why_not(where, text):
    assert text in COVERED, f"{where}: {text}"


@pytest.mark.parametrize("part", NOT_RUN)
def test_what_is_not_run_is_a_message_and_is_not_run(part):
    assert texts_with(part)
    assert part not in ADVICE_TRIED
