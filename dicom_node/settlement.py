"""When a study is judged complete: a decision on evidence, without clock or store.

The end of an association means nothing (PS3.4 B.4) and nothing in DICOM says that a
study is complete. So the evidence is silence, what the sender is known to send, or a
count that the sender gives; and after the hard cap the study is taken as it is.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from core.settings import Settings, SourceSettings

__all__ = ["Evidence", "Policy", "policy_for", "settle_reason"]


@dataclass(frozen=True)
class Policy:
    """What is asked of the studies of one source."""

    quiet_time_s: float
    hard_cap_s: float
    minimum_instances: int
    source: SourceSettings | None
    """The entry of the settings that matched, if one did."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one study now."""

    quiet_for_s: float
    """Since its last instance."""
    age_s: float
    """Since its first instance, or since this node was started."""
    instance_count: int
    expected_instances: int | None
    missing: tuple[str, ...]
    """What the source should have sent and did not, in words without patient data."""


def policy_for(settings: Settings, calling_ae_title: str) -> Policy:
    """Find what is asked of a sender's studies; the first entry that matches counts."""
    source = next(
        (
            entry
            for entry in settings.sources
            if fnmatchcase(calling_ae_title, entry.calling_ae_title)
        ),
        None,
    )
    assembly = settings.assembly
    if source is None:
        return Policy(assembly.quiet_time_s, assembly.hard_cap_s, 0, None)
    return Policy(
        quiet_time_s=source.quiet_time_s or assembly.quiet_time_s,
        hard_cap_s=assembly.hard_cap_s,
        minimum_instances=source.minimum_instances,
        source=source,
    )


def settle_reason(evidence: Evidence, policy: Policy) -> str | None:
    """Tell by what evidence a study is complete, or None while it is not.

    Returns
    -------
    A reason in words for the study's row, at most 200 characters.
    """
    count, expected = evidence.instance_count, evidence.expected_instances
    if expected is not None and 0 < expected <= count:
        return f"{count} of {expected} expected instances"
    missing = list(evidence.missing)
    if count < policy.minimum_instances:
        missing.append(f"{policy.minimum_instances - count} of at least "
                       f"{policy.minimum_instances} instances")  # fmt: skip
    if not missing and evidence.quiet_for_s >= policy.quiet_time_s:
        told = f"; {count} of {expected} expected instances" if expected else ""
        return f"quiet for {policy.quiet_time_s:g} s{told}"
    if evidence.age_s >= policy.hard_cap_s:
        told = f"; missing: {', '.join(missing)}" if missing else ""
        return f"hard cap of {policy.hard_cap_s:g} s{told}"[:200]
    return None
