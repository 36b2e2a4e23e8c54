"""The worklist page of a full installation, as a browser asks for it.

`python -m benchmarks.worklist` makes an index of 100,000 studies, serves its pages, and
times requests over HTTP: the first page, the last, filters, sorts and searches.
"""

import argparse
import random
import tempfile
import threading
import time
from pathlib import Path

import httpx
from sqlalchemy import insert

from benchmarks.harness import Report, add_output_options, paired_rounds
from core.database import accounts
from core.database.accounts import NewAccount, Role
from core.database.engine import Database, open_database
from core.database.schema import study, worklist
from core.database.worklist import WorklistFilter, WorklistState, folded
from core.settings import ReviewSettings, Settings
from review.access.passwords import hash_password
from review.server import ReviewServer

__all__ = ["full_worklist"]

_PASSWORD = "four words to remember"  # noqa: S105 - of an account that lives a minute
_FAMILIES = ("Doe", "Roe", "Müller", "Yamada", "Okafor", "Silva", "Novák", "Haddad")
_GIVEN = ("Jane", "Hans", "Tarou", "Ngozi", "Ana", "Petr", "Layla", "Richard")
_ROWS_AT_ONCE = 5000
_STATES = tuple(WorklistState)


def full_worklist(database: Database, count: int, *, seed: int = 7) -> None:
    """Fill the list with invented studies, one in ten unreviewed.

    Parameters
    ----------
    database
        An empty index.
    count
        How many.
    seed
        Equal seeds give equal lists.
    """
    draw = random.Random(seed)
    for start in range(0, count, _ROWS_AT_ONCE):
        numbers = range(start, min(count, start + _ROWS_AT_ONCE))
        rows = [_row(number, draw) for number in numbers]
        with database.write() as connection:
            connection.execute(insert(study), [_study(row) for row in rows])
            connection.execute(insert(worklist), rows)


def _row(number: int, draw: random.Random) -> dict[str, object]:
    state = WorklistState.UNREVIEWED if draw.random() < 0.1 else draw.choice(_STATES)
    name = f"{draw.choice(_FAMILIES)}, {draw.choice(_GIVEN)} {number}"
    uid = f"1.2.826.0.1.3680043.10.1.{number + 1}"
    facts = (name, f"P{number % 40000:06d}", f"ACC{number:07d}", "Chest PA", uid)
    return {
        "study_id": number + 1,
        "study_instance_uid": uid,
        "patient_name": name,
        "patient_id": facts[1],
        "patient_birth_date": "20200301",
        "patient_sex": "F",
        "study_date": "20261124",
        "study_description": "Chest PA",
        "accession_number": facts[2],
        "modalities": draw.choice(("DX", "CR", "CT")),
        "search_text": folded("\n".join(facts)),
        "received_at": 1.7e9 + 60.0 * number,
        "instances": 1,
        "state": state.value,
        "why": "",
        "urgency": 100 * _STATES.index(state) + 10 * draw.randrange(4) + number % 3,
        "priority": "routine",
        "model": "lung-pneumonia-paediatric 0.2.0",
        "finding": "Pneumonia",
        "presence": "present",
        "probability": draw.random(),
        "last_event_id": 0,
    }


def _study(row: dict[str, object]) -> dict[str, object]:
    return {
        "id": row["study_id"],
        "study_instance_uid": row["study_instance_uid"],
        "state": "settled",
        "order_priority": "routine",
        "calling_ae_title": "DX_ROOM_1",
        "called_ae_title": "SECONDREAD",
        "peer_address": "127.0.0.1",
        "instance_count": 1,
        "first_instance_at": row["received_at"],
        "last_instance_at": row["received_at"],
    }


def main() -> None:
    """Tell it in a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worklist")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=8)
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder) / "data", review=ReviewSettings(port=0)
        )
        database = open_database(settings)
        full_worklist(database, given.studies)
        _add_reader(database)
        report = Report("worklist", Path(folder), programs=[])
        stop = threading.Event()
        address: list[str] = []
        thread = threading.Thread(
            target=ReviewServer(settings).run,
            args=(stop, lambda at, _link: address.append(at)),
        )
        thread.start()
        try:
            while not address:
                time.sleep(0.05)
            with httpx.Client(base_url=address[0]) as client:
                _log_in(client)
                arms = {
                    name: _timed(client, wanted, given.studies)
                    for name, wanted in _questions(given.studies).items()
                }
                measured = paired_rounds(arms, rounds=given.rounds, folder=Path(folder))
        finally:
            stop.set()
            thread.join()
            database.close()
        rows = [{"page": name, "ms": measured.summary(name, "ms")} for name in arms]
        report.table(f"Worklist of {given.studies:,} studies", rows, plot="ms")
        report.finish(given)


def _questions(studies: int) -> dict[str, WorklistFilter]:
    last = studies // 50
    return {
        "what to read first": WorklistFilter(),
        "last page": WorklistFilter(page=last),
        "newest": WorklistFilter(sort="newest"),
        "patient name": WorklistFilter(sort="patient"),
        "highest probability": WorklistFilter(sort="probability"),
        "unreviewed": WorklistFilter(state="unreviewed"),
        "accepted, by name": WorklistFilter(state="accepted", sort="patient"),
        "modality CT": WorklistFilter(modality="CT"),
        "search, one found": WorklistFilter(text="ACC0054321"),
        "search, many found": WorklistFilter(text="muller"),
        "search, none found": WorklistFilter(text="no such name"),
    }


def _add_reader(database: Database) -> None:
    with database.write() as connection:
        accounts.add_account(
            connection,
            NewAccount("jdoe", "Doe", "Jane", Role.READER, hash_password(_PASSWORD)),
        )


def _log_in(client: httpx.Client) -> None:
    client.get("/login")
    token = client.cookies["secondread_form"]
    form = {"login": "jdoe", "password": _PASSWORD, "csrf_token": token}
    answer = client.post("/login", data=form)
    if answer.status_code != httpx.codes.SEE_OTHER:
        raise RuntimeError(f"log-in answered {answer.status_code}")


def _timed(client: httpx.Client, wanted: WorklistFilter, studies: int):  # type: ignore[no-untyped-def]
    def run(_folder: Path) -> dict[str, float]:
        page = client.get("/").text
        token = page.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]
        form = {
            "csrf_token": token, "text": wanted.text, "state": wanted.state,
            "modality": wanted.modality, "sort": wanted.sort,
        }  # fmt: skip
        client.post("/", data=form)
        started = time.perf_counter()
        answer = client.get("/", params={"page": str(wanted.page)})
        seconds = time.perf_counter() - started
        if answer.status_code != httpx.codes.OK or "Worklist" not in answer.text:
            raise RuntimeError(f"the page of {studies} answered {answer.status_code}")
        return {"ms": 1000 * seconds}

    return run


if __name__ == "__main__":
    main()
