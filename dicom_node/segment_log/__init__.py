"""The segment log: instances are durable after one append and one sync.

Segments are files of a fixed size, written once before their first use and recycled,
so that an append allocates nothing and a sync has no journal to commit. Files and rows
are built behind the log, from what is read back out of it.
"""

from dicom_node.segment_log.log import LogFull, SegmentLog
from dicom_node.segment_log.reader import WANTED_FREE, Logged, LogReader
from dicom_node.segment_log.record import HEAD_BYTES, LARGEST_BODY
from dicom_node.segment_log.scrubbing import ask_for_scrubbing, scrubbing_is_wanted

__all__ = [
    "HEAD_BYTES",
    "LARGEST_BODY",
    "WANTED_FREE",
    "LogFull",
    "LogReader",
    "Logged",
    "SegmentLog",
    "ask_for_scrubbing",
    "scrubbing_is_wanted",
]
