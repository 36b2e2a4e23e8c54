"""Stands at the far end of the line and does what a script says, a word a request.

It speaks the line's protocol and reads nothing: the promises about leases, attempts and
limits must hold whatever happens there.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

SCRIPT = Path(sys.argv[1])
READING = {
    "outcome": "analysed",
    "algorithm": {
        "name": "lung",
        "version": "1",
        "manufacturer": "test",
        "weights_sha256": "a" * 64,
        "bundle_sha256": "b" * 64,
        "parameters": [],
    },
    "images": [],
    "findings": [],
    "notes": [],
}


def next_word() -> str:
    words = SCRIPT.read_text().split() if SCRIPT.exists() else []
    SCRIPT.write_text(" ".join(words[1:]))
    return words[0] if words else "answer"


def documents(order: dict) -> list[dict]:
    made = []
    for sop_class_uid in order["sop_class_uids"]:
        name = json.dumps(
            [order["study_instance_uid"], order["content_set"], order["document_kind"]]
        )
        digest = hashlib.sha256((name + sop_class_uid).encode()).hexdigest()
        made.append(
            {
                "sop_class_uid": sop_class_uid,
                "sop_instance_uid": f"2.25.{int(digest[:16], 16)}",
                "series_instance_uid": f"2.25.{int(digest[16:32], 16)}",
                "sha256": digest,
                "bytes": 10,
            }
        )
    return made


def answer(order: dict) -> dict:
    if order["operation"] == "read":
        result = {"reading": json.dumps(READING), "timings": {"infer": 0.01}}
    elif order["operation"] == "report":
        result = {"documents": documents(order)}
    else:
        result = {"models": []}
    return {"result": result}


def error(reason: str, *, final: bool) -> dict:
    return {"error": {"reason": reason, "explanation": "as scripted", "final": final}}


# What a model package says of its own time, and how long it takes to load.
LIMIT, START = SCRIPT.with_suffix(".limit"), SCRIPT.with_suffix(".start")

for line in sys.stdin:
    order = json.loads(line)
    number = {"number": order["number"]}
    if order["operation"] == "prepare":
        limit = float(LIMIT.read_text()) if LIMIT.exists() else 20.0
        time.sleep(float(START.read_text()) if START.exists() else 0.0)
        print(json.dumps({**number, "result": {"time_limit_s": limit}}), flush=True)
        continue
    word = next_word()
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "late-death":
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "memory-watch":
        os._exit(86)
    elif word == "hang":
        time.sleep(3600)
    elif word.startswith("slow="):
        time.sleep(float(word.removeprefix("slow=")))
    if word in ("memory", "store"):
        reply = error(word, final=False)
    elif word == "bundle":
        reply = error("InvalidBundle", final=True)
    else:
        reply = answer(order)
    print(json.dumps({**number, **reply}), flush=True)
