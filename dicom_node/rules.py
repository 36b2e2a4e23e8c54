"""Rules: which studies go to which models, where their reports go, and how soon.

A rule fires when all its conditions hold for one series of the study. All rules are
looked at; where several ask for the same model, the reading is made once, with the
highest of their priorities, for all their destinations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.domain import ModelIdentity
from core.settings import Priority, RuleSettings, Settings, SourceSettings
from dicom_node.rule_conditions import Condition, Judgement, build_conditions
from dicom_node.series_header import SeriesHeader

__all__ = [
    "EVERY",
    "Plan",
    "PlannedReading",
    "Rule",
    "RuleVerdict",
    "build_rules",
    "check_rules",
    "check_sources",
    "explain",
    "plan_readings",
    "required_series",
]

EVERY = "*"
"""In a rule: every active model, every configured destination."""


@dataclass(frozen=True)
class RuleVerdict:
    """Whether a rule fires for a series, and what each condition says."""

    rule: str
    fires: bool
    judgements: tuple[Judgement, ...]
    """Hold values of the header: for the operator's eyes, never for a log."""
    enabled: bool = True


@dataclass(frozen=True)
class Rule:
    """A rule whose conditions are known to be sound."""

    settings: RuleSettings
    conditions: tuple[Condition, ...]

    def verdict(self, header: SeriesHeader) -> RuleVerdict:
        """Judge one series; never raises, whatever the header holds."""
        judgements = tuple(condition.judge(header) for condition in self.conditions)
        return RuleVerdict(
            rule=self.settings.name,
            fires=self.settings.enabled and all(item.holds for item in judgements),
            judgements=judgements,
            enabled=self.settings.enabled,
        )


@dataclass(frozen=True)
class PlannedReading:
    """One reading that rules ask for."""

    model: ModelIdentity
    rule: str
    """The one that gave the priority."""
    destinations: tuple[str, ...]
    priority: Priority


@dataclass(frozen=True)
class Plan:
    """What rules make of a study."""

    readings: tuple[PlannedReading, ...]
    remarks: tuple[str, ...]
    """Why there is no reading, or not each that was asked for; no patient data."""


def build_rules(rules: Sequence[RuleSettings]) -> tuple[Rule, ...]:
    """Build rules from their settings.

    Raises
    ------
    InvalidSettings
        Naming the rule and the condition that cannot be used.
    """
    return tuple(
        Rule(entry, build_conditions(f"rule {entry.name!r}", entry.when))
        for entry in rules
    )


def check_rules(rules: Sequence[RuleSettings]) -> None:
    """Find everything that is wrong with rules, at once and before any study comes.

    Raises
    ------
    InvalidSettings
        Naming the rule and the condition that cannot be used.
    """
    build_rules(rules)


def check_sources(sources: Sequence[SourceSettings]) -> None:
    """Find everything that is wrong with the `required_series` of sources.

    Raises
    ------
    InvalidSettings
        Naming the source and the condition that cannot be used.
    """
    for source in sources:
        required_series(source)


def required_series(source: SourceSettings) -> tuple[tuple[Condition, ...], ...]:
    """Build the conditions that a source's series must fulfil, one group a series.

    Raises
    ------
    InvalidSettings
        Naming the source and the condition that cannot be used.
    """
    place = f"source {source.calling_ae_title!r}, required_series"
    return tuple(
        build_conditions(f"{place} {number}", when)
        for number, when in enumerate(source.required_series, start=1)
    )


def explain(rule: RuleSettings, header: SeriesHeader) -> RuleVerdict:
    """Tell whether a rule fires for a series and why: `secondread rules test`.

    Raises
    ------
    InvalidSettings
        If the rule itself cannot be used.
    """
    (built,) = build_rules([rule])
    return built.verdict(header)


def plan_readings(
    rules: Sequence[Rule],
    headers: Sequence[SeriesHeader],
    active_models: Sequence[ModelIdentity],
    *,
    settings: Settings,
    order_priority: Priority,
) -> Plan:
    """Decide which models read a study, for which destinations and how soon.

    Parameters
    ----------
    rules
        All rules, in the order of the settings.
    headers
        One of each series that is no result of ours.
    active_models
        Models that may serve now.
    settings
        For the names of the destinations.
    order_priority
        From the order's attributes; it may raise a rule's priority, never lower it.
    """
    firing = [
        rule.settings
        for rule in rules
        if any(rule.verdict(header).fires for header in headers)
    ]
    if not firing:
        return Plan((), (_why_nothing_fired(rules, headers),))
    remarks: list[str] = []
    planned: dict[str, PlannedReading] = {}
    for entry in firing:
        for model in _models_of(entry, active_models, remarks):
            asked = PlannedReading(
                model=model,
                rule=entry.name,
                destinations=_destinations_of(entry, settings),
                priority=min(entry.priority, order_priority, key=lambda p: p.rank),
            )
            known = planned.get(model.bundle_sha256)
            planned[model.bundle_sha256] = _united(known, asked) if known else asked
    return Plan(tuple(planned.values()), tuple(dict.fromkeys(remarks)))


def _why_nothing_fired(rules: Sequence[Rule], headers: Sequence[SeriesHeader]) -> str:
    if not headers:
        return "no series of its own whose header can be read"
    if not any(rule.settings.enabled for rule in rules):
        return "no rule is enabled"
    return f"no rule fires for any of its {len(headers)} series"


def _models_of(
    entry: RuleSettings, active: Sequence[ModelIdentity], remarks: list[str]
) -> list[ModelIdentity]:
    by_name: Mapping[str, list[ModelIdentity]] = {
        name: [model for model in active if name in (EVERY, model.name)]
        for name in entry.models
    }
    for name, found in by_name.items():
        if found:
            continue
        what = "no model" if name == EVERY else f"no model named {name!r}"
        remarks.append(f"rule {entry.name!r} fires, but {what} is active")
    return list(dict.fromkeys(model for found in by_name.values() for model in found))


def _destinations_of(entry: RuleSettings, settings: Settings) -> tuple[str, ...]:
    if EVERY in entry.destinations:
        return tuple(destination.name for destination in settings.destinations)
    return entry.destinations


def _united(first: PlannedReading, second: PlannedReading) -> PlannedReading:
    leading = min(first, second, key=lambda reading: reading.priority.rank)
    return PlannedReading(
        model=first.model,
        rule=leading.rule,
        destinations=tuple(dict.fromkeys(first.destinations + second.destinations)),
        priority=leading.priority,
    )
