"""What all measurements share: paired rounds, processes, machine facts, the output."""

from benchmarks.harness.machine import machine_facts, versions
from benchmarks.harness.processes import (
    PROMPT,
    SHIPPED,
    Running,
    free_port,
    process_tree,
    running,
    wait_for_port,
)
from benchmarks.harness.report import Report, add_output_options
from benchmarks.harness.rounds import Measured, Sample, paired_rounds
from benchmarks.harness.summary import Summary, ratios, summarise

__all__ = [
    "PROMPT",
    "SHIPPED",
    "Measured",
    "Report",
    "Running",
    "Sample",
    "Summary",
    "add_output_options",
    "free_port",
    "machine_facts",
    "paired_rounds",
    "process_tree",
    "ratios",
    "running",
    "summarise",
    "versions",
    "wait_for_port",
]
