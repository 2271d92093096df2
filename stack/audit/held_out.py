"""Check that no stage was trained on the held-out products."""

from stack.audit.records import AuditedRun, Check
from stack.judge.held_out import find_trained_on


def check_held_out(audited: AuditedRun) -> Check:
    """Look for held-out products that a stage could have been trained on."""
    counts = find_trained_on(audited.run)
    shown = ", ".join(f"{n} {reason}" for reason, n in counts.items())
    return Check(
        name="held out",
        passed=not any(counts.values()),
        detail=f"of {len(audited.run.held_out_rows())} held-out products: {shown}",
    )
