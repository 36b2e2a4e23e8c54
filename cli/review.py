"""`secondread review`: a radiologist's decisions, from the command line."""

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, DataDirectory, opened_settings
from cli.studies import Study

if TYPE_CHECKING:
    from pathlib import Path

    from core.assessment import FindingChange, Reader
    from core.database.assessments import AssessmentRow
    from core.database.engine import Database
    from core.domain import Analysed, Code
    from core.settings import Settings
    from review.decisions import Actor, Desk, Result

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Accept, amend or reject AI results; each decision becomes a verified report.",
)

Name = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="FAMILY^GIVEN",
        help="Who answers for the decision, as the report will name them.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Whose result, where several models read the study."),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Code value of a reason (`review.reasons`)."),
]
Comment = Annotated[str, typer.Option("--comment", help="Why, in words.")]


@app.command()
def serve(data_dir: DataDirectory = None) -> None:
    """Serve the pages for readers and operators; `secondread up` does it as well.

    Prints their address, and as long as there is no account the link that makes the
    first one.

    Example: `secondread review serve`
    """
    import signal  # noqa: PLC0415
    import threading  # noqa: PLC0415

    from cli import output  # noqa: PLC0415
    from core.log import configure_logging  # noqa: PLC0415
    from review.server import ReviewServer  # noqa: PLC0415

    settings = opened_settings(data_dir)
    configure_logging(settings.log, "review")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())

    def tell(address: str, first_link: str | None) -> None:
        output.messages().print(f"Pages: {address}", markup=False)
        if first_link:
            output.messages().print(
                f"No account yet. Make the first one, once: {first_link}", markup=False
            )

    ReviewServer(settings).run(stop, tell)


@app.command("list")
def list_results(
    everything: Annotated[
        bool, typer.Option("--all", help="Assessed results, too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many studies at most.")] = 50,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """List AI results that wait for a reader, the last received study first.

    Example: `secondread review list`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415

    settings = opened_settings(data_dir)
    with opened_index(settings) as database:
        rows = _rows(database, everything, limit)
    if as_json:
        output.print_json(rows)
        return
    if not rows:
        output.messages().print("No AI result waits for a reader.")
        return
    shown = output.table("study", "model", "answer", "assessment", "by")
    for row in rows:
        shown.add_row(
            row["study_instance_uid"],
            f"{row['model']} {row['model_version']}",
            output.plain(row["answer"]),
            output.styled(row["assessment"]),
            output.plain(row["by"] or ""),
        )
    output.print_table(shown)


def _rows(database: "Database", everything: bool, limit: int) -> list[dict[str, Any]]:
    from core.database.overview import study_lines  # noqa: PLC0415
    from core.domain import Analysed  # noqa: PLC0415
    from review.decisions import results_of_study  # noqa: PLC0415

    with database.read() as connection:
        lines = study_lines(connection, limit=limit)
    rows = []
    for line in lines:
        for result in results_of_study(database, line.study_instance_uid):
            if not isinstance(result.reading, Analysed):
                continue
            if result.standing is not None and not everything:
                continue
            rows.append(_row(result, result.reading))
    return rows


def _row(result: "Result", reading: "Analysed") -> dict[str, Any]:
    standing = result.standing
    return {
        "study_instance_uid": result.study_instance_uid,
        "job_id": result.job.id,
        "model": result.job.model,
        "model_version": result.job.model_version,
        "answer": ", ".join(
            f"{one.code.meaning} {one.presence} ({one.probability:.0%})"
            for one in reading.findings
        ),
        "assessment": standing.decision.value if standing else "unreviewed",
        "by": standing.assessment.reader.login if standing else None,
        "decisions": result.version,
    }


@app.command()
def accept(
    study: Study,
    name: Name,
    comment: Comment = "",
    model: Model = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Accept an AI result as your own.

    Example: `secondread review accept 1.2.840.113619.2.55.1 --name Doe^Jane`
    """
    from core.assessment import Decision, assess  # noqa: PLC0415

    with _Counter(data_dir, study, name, model) as at:
        made = at.desk.decide(
            at.result,
            assess(at.reading, Decision.ACCEPTED, at.reader, comment=comment),
            at.actor,
        )
    _tell(at, made, as_json)


@app.command()
def amend(
    study: Study,
    name: Name,
    finding: Annotated[
        list[str],
        typer.Option(
            "--finding",
            metavar="FINDING=ANSWER",
            help="Your answer: present, absent or undetermined; once for each finding "
            "that you change.",
        ),
    ],
    comment: Comment = "",
    reason: Reason = None,
    model: Model = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Put your own answer in the place of the model's.

    Example: `secondread review amend 1.2.840.113619.2.55.1 --name Doe^Jane
    --finding pneumonia=absent`
    """
    from core.assessment import Decision, assess  # noqa: PLC0415

    with _Counter(data_dir, study, name, model) as at:
        assessment = assess(
            at.reading,
            Decision.AMENDED,
            at.reader,
            changes=_changes(at.reading, finding),
            reason=_reason(at.settings, reason),
            comment=comment,
        )
        made = at.desk.decide(at.result, assessment, at.actor)
    _tell(at, made, as_json)


@app.command()
def reject(
    study: Study,
    name: Name,
    comment: Comment = "",
    reason: Reason = None,
    model: Model = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Say that an AI result must not be used, and why.

    Example: `secondread review reject 1.2.840.113619.2.55.1 --name Doe^Jane
    --reason image-quality`
    """
    from core.assessment import Decision, assess  # noqa: PLC0415

    with _Counter(data_dir, study, name, model) as at:
        assessment = assess(
            at.reading,
            Decision.REJECTED,
            at.reader,
            reason=_reason(at.settings, reason),
            comment=comment,
        )
        made = at.desk.decide(at.result, assessment, at.actor)
    _tell(at, made, as_json)


@app.command()
def withdraw(
    study: Study,
    name: Name,
    comment: Comment = "",
    reason: Reason = None,
    safety: Annotated[
        bool,
        typer.Option("--safety", help="For patient safety; default: for quality."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    model: Model = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Ask archives to hide an AI result that should not exist; it cannot be undone.

    For a wrong patient or a faulty model. Whoever only disagrees rejects.

    Example: `secondread review withdraw 1.2.840.113619.2.55.1 --name Doe^Jane
    --reason wrong-patient`
    """
    from core.assessment import Decision, assess  # noqa: PLC0415

    question = "Send a rejection note, after which archives hide this AI result?"
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    with _Counter(data_dir, study, name, model) as at:
        assessment = assess(
            at.reading,
            Decision.WITHDRAWN,
            at.reader,
            reason=_reason(at.settings, reason),
            comment=comment,
        )
        made = at.desk.withdraw(at.result, assessment, at.actor, for_safety=safety)
    _tell(at, made, as_json)


@app.command()
def undo(
    study: Study,
    model: Model = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Take the last decision back, as long as nothing of it has left.

    Example: `secondread review undo 1.2.840.113619.2.55.1`
    """
    from cli import output  # noqa: PLC0415

    with _Counter(data_dir, study, "-", model) as at:
        at.desk.undo(at.result, at.result.version, at.actor)
    uid = at.result.study_instance_uid
    if as_json:
        output.print_json({"study_instance_uid": uid, "undone": at.result.version})
    else:
        output.messages().print(f"Taken back: study {uid}.")


class _Counter:
    """An opened installation, a study's result, and who stands before it."""

    settings: "Settings"
    desk: "Desk"
    result: "Result"
    reader: "Reader"
    actor: "Actor"

    def __init__(
        self, data_dir: "Path | None", study: str, name: str, model: str | None
    ) -> None:
        self._data_dir = data_dir
        self._study = study
        self._name = name
        self._model = model

    def __enter__(self) -> "_Counter":
        from cli.index import opened_index, the_one_study  # noqa: PLC0415
        from core.assessment import Reader  # noqa: PLC0415
        from review.decisions import Actor, Desk, result_of_job  # noqa: PLC0415

        self.settings = opened_settings(self._data_dir)
        self._opened = opened_index(self.settings)
        database = self._opened.__enter__()
        with database.read() as connection:
            uid = the_one_study(connection, self._study)
        self.result = result_of_job(database, self._job_of(database, uid))
        family, _, given = self._name.partition("^")
        login = getpass.getuser()
        organization = self.settings.review.organization
        self.reader = Reader(login, family.strip(), given.strip(), organization)
        self.actor = Actor(login, "cli")
        self.desk = Desk(self.settings, database)
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    @property
    def reading(self) -> "Analysed":
        from core.domain import Analysed  # noqa: PLC0415

        assert isinstance(self.result.reading, Analysed)  # result_of_job saw to it
        return self.result.reading

    def _job_of(self, database: "Database", uid: str) -> int:
        from core.errors import InvalidAssessment  # noqa: PLC0415
        from review.decisions import results_of_study  # noqa: PLC0415

        found = [
            result
            for result in results_of_study(database, uid)
            if self._model in (None, result.job.model)
        ]
        if len(found) == 1:
            return found[0].job.id
        if not found:
            whose = f" of {self._model}" if self._model else ""
            raise InvalidAssessment(
                f"study {uid} has no AI result{whose}; `secondread show` tells how far "
                "it is"
            )
        names = ", ".join(result.job.model for result in found)
        raise InvalidAssessment(
            f"study {uid} has results of several models; choose with --model: {names}"
        )


def _changes(reading: "Analysed", texts: list[str]) -> "dict[str, FindingChange]":
    from core.assessment import FindingChange  # noqa: PLC0415
    from core.domain import Presence  # noqa: PLC0415

    findings = {one.tracking_identifier: one for one in reading.findings}
    changes = {}
    for text in texts:
        name, _, answer = text.partition("=")
        if name not in findings or answer not in list(Presence):
            raise typer.BadParameter(
                f"--finding is FINDING=ANSWER, of {', '.join(findings)} and of "
                f"{', '.join(Presence)}"
            )
        before = findings[name]
        changes[name] = FindingChange(Presence(answer), before.site, before.laterality)
    return changes


def _reason(settings: "Settings", value: str | None) -> "Code | None":
    from core.settings import code_of  # noqa: PLC0415

    if value is None:
        return None
    known = {code.value: code for code in map(code_of, settings.review.reasons)}
    if value not in known:
        raise typer.BadParameter(f"--reason is one of: {', '.join(known)}")
    return known[value]


def _tell(at: _Counter, made: "AssessmentRow", as_json: bool) -> None:
    from cli import output  # noqa: PLC0415

    if as_json:
        output.print_json(
            {
                "study_instance_uid": at.result.study_instance_uid,
                "job_id": made.job_id,
                "number": made.number,
                "decision": made.decision,
                "decided_at": made.decided_at,
                "leaves_at": made.undo_until,
            }
        )
        return
    window = f"{at.settings.review.undo_window_s:g} s"
    later = (
        "Its note leaves now."
        if made.undo_until <= made.decided_at
        else f"Its report leaves in {window}; until then "
        f"`secondread review undo {at.result.study_instance_uid}` takes it back."
    )
    output.messages().print(f"{made.decision.capitalize()}. {later}", markup=False)
