"""The queue: a Celery application on Redis, and the one message that crosses it.

The message is `{"job_id": 17}` and nothing else. It wakes a worker up; what is to be
done stands in the database. So the queue may lose, repeat or reorder messages at will.
"""

from typing import TYPE_CHECKING

from core.errors import BrokerUnavailable
from core.settings import Priority, Settings

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["QUEUE_NAME", "READ_TASK", "announce_job", "concurrency", "make_celery"]

QUEUE_NAME = "secondread"
READ_TASK = "secondread.read"
# kombu keeps one list per step and drains the lowest first.
_PRIORITY_STEPS = [priority.rank for priority in Priority]


def make_celery(settings: Settings) -> "Celery":
    """Build the Celery application.

    Each line below removes a failure that was measured; docs/decisions/queue.md tells
    which.
    """
    # A node receives before it announces, and need not wait for this import.
    from celery import Celery  # noqa: PLC0415

    app = Celery("secondread", broker=settings.broker_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=QUEUE_NAME,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1},
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=concurrency(settings),
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Far beyond any job: leases in the database find lost jobs, not the broker.
            "visibility_timeout": 43200,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "priority_steps": _PRIORITY_STEPS,
            "queue_order_strategy": "priority",
        },
    )
    return app


def concurrency(settings: Settings) -> int:
    """Return how many jobs one worker has in hand at a time."""
    return settings.worker.concurrency * settings.worker.jobs_per_process


def announce_job(app: "Celery", job_id: int, priority: Priority) -> None:
    """Ring the doorbell for a job.

    Raises
    ------
    BrokerUnavailable
        If the broker does not take the message within its time limits.
    """
    from kombu.exceptions import OperationalError  # noqa: PLC0415

    try:
        app.send_task(READ_TASK, kwargs={"job_id": job_id}, priority=priority.rank)
    except (OperationalError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(
            f"the broker does not answer ({type(error).__name__}); "
            f"job {job_id} waits in the index and is announced again"
        ) from error
