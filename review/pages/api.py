"""The same facts for programs: JSON, CSV, and a document that says what there is.

Read only, behind the same gate as the pages. Decisions are made by people.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.assessment import Assessment
from core.database import (
    assessments,
    deliveries,
    jobs,
    overview,
    reports,
    studies,
    worklist,
)
from core.database.worklist import SORTS, WorklistFilter, WorklistState
from core.domain import Analysed, reading_from_json
from core.lifecycle import JobState
from review.decisions import Result, results_of_study
from review.pages.desk import office_of

__all__ = [
    "OPENAPI",
    "assessments_csv",
    "jobs_json",
    "openapi",
    "results_json",
    "study_json",
]

PAGE = 100
_COLUMNS = (
    "study_instance_uid",
    "model",
    "model_version",
    "finding",
    "probability",
    "threshold",
    "model_answer",
    "decision",
    "reader_answer",
    "reason",
    "reader",
    "decided_at",
    "received_at",
)


def results_json(request: Request) -> Response:
    """List studies with their AI result, as the worklist does; no patient in it."""
    state = request.query_params.get("state", "")
    sort = request.query_params.get("sort", "urgency")
    page = request.query_params.get("page", "1")
    if (state and state not in list(WorklistState)) or sort not in SORTS:
        return _refused("state or sort is not one that /api/openapi.json names")
    if not page.isdecimal():
        return _refused("page is a number from 1")
    wanted = WorklistFilter(state=state, sort=sort, page=int(page))
    with office_of(request).database.read() as connection:
        found = worklist.page(connection, wanted, size=PAGE)
    shown = (
        "study_instance_uid", "state", "why", "priority", "model", "finding",
        "presence", "probability", "modalities", "instances", "received_at",
    )  # fmt: skip
    rows = [
        {name: row._mapping[name] for name in shown}
        | {"probability": None if row.probability < 0 else row.probability}
        for row in found.rows
    ]
    return JSONResponse(
        {
            "results": rows,
            "total": found.total,
            "page": found.page,
            "pages": found.pages,
            "by_state": dict(found.by_state),
        }
    )


def study_json(request: Request) -> Response:
    """Tell everything of one study: results, decisions, reports, deliveries."""
    office = office_of(request)
    uid = request.path_params["study"]
    with office.database.read() as connection:
        study = studies.study_by_uid(connection, uid)
        if study is None:
            return _refused(f"there is no study {uid}", 404)
        documents = reports.reports_of_study(connection, study.id)
        sent = deliveries.deliveries_of_study(connection, study.id)
    office.record(request, "view study", study_instance_uid=uid, detail="api")
    found = results_of_study(office.database, uid)
    return JSONResponse(
        {
            "study_instance_uid": uid,
            "state": study.state.value,
            "instances": study.instance_count,
            "results": [_result(one) for one in found],
            "reports": [
                {
                    "sop_instance_uid": one.sop_instance_uid,
                    "sop_class_uid": one.sop_class_uid,
                    "kind": one.document_kind,
                    "deliveries": [
                        {
                            "destination": delivery.destination,
                            "state": delivery.state.value,
                            "attempts": delivery.attempts,
                            "delivered_at": delivery.delivered_at,
                        }
                        for delivery in sent
                        if delivery.report_id == one.id
                    ],
                }
                for one in documents
            ],
        }
    )


def jobs_json(request: Request) -> Response:
    """List readings, the newest first."""
    state = request.query_params.get("state", "")
    if state and state not in list(JobState):
        return _refused("state is not one that /api/openapi.json names")
    with office_of(request).database.read() as connection:
        lines = overview.job_lines(
            connection, state=JobState(state) if state else None, limit=PAGE
        )
    return JSONResponse({"jobs": [asdict(line) for line in lines]})


def assessments_csv(request: Request) -> Response:
    """Export every decision that holds, a row a finding, to compare with the model."""
    office = office_of(request)
    office.record(request, "export assessments")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    with office.database.read() as connection:
        for row in assessments.holding(connection):
            job = jobs.job_by_id(connection, row.job_id)
            study = studies.study_by_id(connection, row.study_id)
            reading = reading_from_json(job.reading or "") if job else None
            if job is None or study is None or not isinstance(reading, Analysed):
                continue
            head = (study.study_instance_uid, job.model, job.model_version)
            tail = (row.decided_at, study.first_instance_at)
            for middle in _findings(reading, row.assessment):
                writer.writerow(_plain(value) for value in (*head, *middle, *tail))
    return Response(
        text.getvalue(),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="assessments.csv"'},
    )


def _findings(
    reading: Analysed, assessment: Assessment
) -> Iterator[tuple[object, ...]]:
    said = {one.tracking_identifier: one for one in assessment.findings}
    for finding in reading.findings:
        judged = said.get(finding.tracking_identifier)
        presence = judged.presence if judged else None
        yield (
            finding.tracking_identifier,
            round(finding.probability, 6),
            finding.threshold,
            finding.presence.value,
            assessment.decision.value,
            presence.value if presence else "",
            assessment.reason.value if assessment.reason else "",
            assessment.reader.login,
        )


def _plain(value: object) -> object:
    """Keep spreadsheets from taking a text for a formula."""
    dangerous = isinstance(value, str) and value[:1] in ("=", "+", "-", "@")
    return f"'{value}" if dangerous else value


def _result(result: Result) -> Mapping[str, Any]:
    return {
        "job_id": result.job.id,
        "model": result.job.model,
        "model_version": result.job.model_version,
        "reading": asdict(result.reading),
        "assessments": [
            {
                "number": row.number,
                "state": row.state.value,
                "decided_at": row.decided_at,
                "assessment": asdict(row.assessment),
            }
            for row in result.decisions
        ],
    }


def _refused(why: str, status: int = 400) -> Response:
    return JSONResponse({"error": why}, status)


def openapi(_request: Request) -> Response:
    """Say what there is."""
    return Response(json.dumps(OPENAPI, indent=1), media_type="application/json")


def _query(name: str, values: list[str] | None = None) -> dict[str, Any]:
    kind: dict[str, Any] = (
        {"type": "string", "enum": values} if values else {"type": "integer"}
    )
    return {"name": name, "in": "query", "required": False, "schema": kind}


def _get(
    summary: str,
    *parameters: dict[str, Any],
    media_type: str = "application/json",
    **further: str,
) -> dict[str, Any]:
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    refusals = {
        status: {
            "description": words,
            "content": {"application/json": {"schema": error}},
        }
        for status, words in further.items()
    }
    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": {
                "200": {
                    "description": "As asked.",
                    "content": {media_type: {"schema": {}}},
                },
                "303": {"description": "Not logged in: leads to the log-in."},
                **{status.removeprefix("s"): one for status, one in refusals.items()},
            },
        }
    }


OPENAPI: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "secondread",
        "version": "0.1",
        "description": "AI results and what readers say of them. Read only; the cookie "
        "of a session opens it. Times are seconds since 1970, UTC. No patient data.",
    },
    "paths": {
        "/api/results": _get(
            "Studies with their AI result.",
            _query("state", [state.value for state in WorklistState]),
            _query("sort", list(SORTS)),
            _query("page"),
            s400="A parameter is not one of those named here.",
        ),
        "/api/studies/{study}": _get(
            "One study: results, decisions, reports, deliveries.",
            {
                "name": "study",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "Study Instance UID.",
            },
            s404="There is no such study.",
        ),
        "/api/jobs": _get(
            "Readings, the newest first.",
            _query("state", [state.value for state in JobState]),
            s400="A parameter is not one of those named here.",
        ),
        "/api/assessments.csv": _get(
            "Every decision that holds, a row a finding, beside the model's answer.",
            media_type="text/csv",
        ),
    },
    "components": {
        "securitySchemes": {
            "session": {"type": "apiKey", "in": "cookie", "name": "secondread_session"}
        }
    },
    "security": [{"session": []}],
}
