"""The index: the truth about studies, jobs, reports and deliveries.

`schema` has the tables, `engine` the connection, the other modules one subject each.
All of them take a connection: what belongs together is committed together by the
caller.
"""
