"""From a claimed job to a stored report.

`tasks` is what Celery calls, `job_runner` keeps the promises (leases, attempts,
limits), `reading_process` is the other process in which pixels and networks are
handled, and `pipeline` is what happens there, readable from top to bottom and free of
Celery.
"""
