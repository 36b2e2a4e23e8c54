"""Ties a command's life to its parent's, then becomes that command.

Run as a script: `python tether.py PARENT_PID COMMAND...`. When the parent dies, even by
SIGKILL, the kernel kills the command. It is done here, between fork and exec, because
Python code in a forked child of a process with threads may hang for ever.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); survives execve
PARENT_IS_GONE = 70


def main() -> None:
    """Ask for the parent-death signal and run the command in this process's place."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # SIGKILL: every part is built to survive it, and only it is always obeyed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the line above.
        if os.getppid() != parent:
            sys.exit(PARENT_IS_GONE)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
