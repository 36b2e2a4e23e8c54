"""Listeners in processes of their own, and the process that keeps them running.

    node ── fork ──▶ keeper ── fork ──▶ listener 0 … n

The node forks the keeper before it has a thread or a database, so what is forked from
it, also much later in place of a listener that died, starts clean and small. All of
them watch one pipe whose other end only the node holds: a byte in it means "end in
order", its end means that the node is gone, and then nobody may receive any more.
"""

import gc
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from core.errors import InternalError
from core.log import get_log
from core.received import KnownInstance
from core.settings import Settings
from dicom_node.association_log import AssociationLog
from dicom_node.listener import Listener
from dicom_node.ports import Listening
from dicom_node.reception import Reception

__all__ = ["ListenerProcesses"]

_READY_WITHIN_S = 30.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_STEADY_S = 10.0
# Beyond what a listener gets for its open associations.
_GRACE_S = 2.0
_LONGEST_MESSAGE = 65536


class ListenerProcesses:
    """The listeners of one node; made and forked before the node has threads.

    Parameters
    ----------
    reception
        What they share.
    ports
        For each listener, what it accepts from.
    stop_within_s
        How long open associations may take when the node stops, in seconds.
    """

    def __init__(
        self,
        reception: Reception,
        ports: Sequence[Sequence[Listening]],
        *,
        stop_within_s: float,
    ) -> None:
        self._reception = reception
        self._ports = ports
        self._stop_within_s = stop_within_s
        # "Go" and "stop" are pipes that are polled and never read, so that one byte
        # reaches everybody.
        self._go_reader, self._go_writer = os.pipe()
        self._life_reader, self._life_writer = os.pipe()
        self._hear, self._tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._tell.setblocking(False)
        self._keeper = 0
        self._stopped = False
        self.log = AssociationLog(reception.counters)

    def fork(self) -> None:
        """Fork the keeper; nobody accepts before `accept`."""
        gc.freeze()
        self._keeper = os.fork()
        if self._keeper == 0:
            os.close(self._life_writer)
            os.close(self._go_writer)
            self._hear.close()
            _run_and_exit(self._keep)
        self._close_ports_but(None)
        self._tell.close()

    def accept(self) -> None:
        """Let the listeners accept, and wait until all of them do.

        Raises
        ------
        InternalError
            If they do not within a generous time.
        """
        threading.Thread(
            target=self._listen_to_logs, name="listener-logs", daemon=True
        ).start()
        os.write(self._go_writer, b"g")
        deadline = time.monotonic() + _READY_WITHIN_S
        while self._reception.counters.total("listening") < len(self._ports):
            if time.monotonic() > deadline or not self.alive():
                raise InternalError(
                    "the listeners did not start; the log says what ended them"
                )
            time.sleep(0.005)

    def alive(self) -> bool:
        """Tell whether the keeper runs."""
        if not self._keeper:
            return False
        with suppress(ChildProcessError):
            process_id, _ = os.waitpid(self._keeper, os.WNOHANG)
            if process_id == 0:
                return True
        self._keeper = 0
        return False

    def stop(self) -> None:
        """End all of them: in order, and what is left after the time at once."""
        if self._stopped:
            return
        self._stopped = True
        os.write(self._life_writer, b"s")
        deadline = time.monotonic() + self._stop_within_s + 2 * _GRACE_S
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        # Whoever is left ends because of this, at whatever it is.
        os.close(self._life_writer)
        if self.alive():
            get_log().warning("listeners_left_behind")
        for descriptor in (self._go_reader, self._go_writer, self._life_reader):
            os.close(descriptor)
        with suppress(OSError):
            self._hear.shutdown(socket.SHUT_RDWR)
        self._hear.close()

    def _close_ports_but(self, owner: int | None) -> None:
        for other, ports in enumerate(self._ports):
            if other != owner:
                for port in ports:
                    port.socket.close()

    def _listen_to_logs(self) -> None:
        with suppress(OSError):
            while message := self._hear.recv(_LONGEST_MESSAGE):
                if message.startswith(b"lost "):
                    self.log.lost(int(message[5:]))
                else:
                    self.log.hear(message)

    def _send_to_node(self, message: bytes) -> None:
        # For people who look at what happened lately: not worth waiting for.
        with suppress(OSError):
            self._tell.send(message)

    # -- in the keeper ---------------------------------------------------------------

    def _keep(self) -> None:
        """Fork listeners and those that follow them, until the node ends."""
        _obey_only_the_node()
        wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        keeping = _Keeping(self._reception, self._fork_listener, self._send_to_node)
        for owner in range(len(self._ports)):
            keeping.start(owner)
        poll = select.poll()
        poll.register(self._life_reader, select.POLLIN)
        poll.register(wake_reader, select.POLLIN)
        while True:
            for descriptor, events in poll.poll(keeping.wait_ms()):
                if descriptor == wake_reader:
                    os.read(wake_reader, 4096)
                elif events & select.POLLIN and not keeping.stopping:
                    keeping.stopping = True
                    # From now on only its end is of interest.
                    poll.modify(self._life_reader, 0)
                elif events & select.POLLHUP:
                    keeping.kill()
                    return
            keeping.reap()
            if keeping.stopping and not keeping.running:
                return

    def _fork_listener(self, owner: int) -> int:
        process_id = os.fork()
        if process_id == 0:
            _run_and_exit(lambda: self._listen(owner))
        return process_id

    # -- in a listener ---------------------------------------------------------------

    def _listen(self, owner: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _obey_only_the_node()
        self._close_ports_but(owner)
        listener = Listener(
            self._reception,
            _look_up_in(self._reception.settings),
            AssociationLog(self._reception.counters, owner, self._send_to_node),
            owner,
        )
        life = select.poll()
        life.register(self._life_reader, select.POLLIN)
        both = select.poll()
        both.register(self._life_reader, select.POLLIN)
        both.register(self._go_reader, select.POLLIN)
        if any(descriptor == self._life_reader for descriptor, _ in both.poll()):
            return
        listener.start(self._ports[owner])
        counters = self._reception.counters
        if not counters.of(owner, "listening"):
            counters.add(owner, "listening")
        _, events = life.poll()[0]
        if events & select.POLLIN:
            threading.Thread(target=self._die_with_the_node, daemon=True).start()
            listener.stop(self._stop_within_s)

    def _die_with_the_node(self) -> None:
        poll = select.poll()
        poll.register(self._life_reader, 0)
        poll.poll()
        os._exit(1)


class _Keeping:
    """Which listeners run, and which are due to be started again."""

    def __init__(
        self,
        reception: Reception,
        fork: Callable[[int], int],
        tell: Callable[[bytes], None],
    ) -> None:
        self._reception = reception
        self._fork = fork
        self._tell = tell
        self.running: dict[int, int] = {}
        self.stopping = False
        self._began: dict[int, float] = {}
        self._delays: dict[int, float] = {}
        self._due: dict[int, float] = {}

    def start(self, owner: int) -> None:
        self._began[owner] = time.monotonic()
        self.running[self._fork(owner)] = owner

    def wait_ms(self) -> float | None:
        """Return how long there is nothing to do."""
        if self.stopping or not self._due:
            return None
        return max(0.0, min(self._due.values()) - time.monotonic()) * 1000

    def reap(self) -> None:
        """Clear up behind the dead and start the next ones when they are due."""
        while self.running:
            try:
                process_id, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if process_id == 0:
                break
            self._ended(process_id, os.waitstatus_to_exitcode(status))
        if self.stopping:
            return
        now = time.monotonic()
        for owner in [owner for owner, due in self._due.items() if due <= now]:
            del self._due[owner]
            self.start(owner)

    def kill(self) -> None:
        for process_id in self.running:
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)

    def _ended(self, process_id: int, exit_status: int) -> None:
        owner = self.running.pop(process_id, None)
        if owner is None or self.stopping:
            return
        self._reception.abandon(owner)
        self._tell(f"lost {owner}".encode("ascii"))
        now = time.monotonic()
        steady = now - self._began[owner] >= _STEADY_S
        delay = _FIRST_DELAY_S if steady else self._delays.get(owner, _FIRST_DELAY_S)
        self._delays[owner] = min(2 * delay, _LONGEST_DELAY_S)
        self._due[owner] = now + delay
        get_log().error(
            "listener_ended", pid=process_id, exit_status=exit_status, delay_s=delay,
            action="another one is started in its place",
        )  # fmt: skip


def _look_up_in(settings: Settings) -> Callable[[str], KnownInstance | None]:
    """Make what asks the index, which is opened when it is asked for the first time.

    A listener of new instances never needs it, and is smaller and quicker without.
    """
    opened: list[Callable[[str], KnownInstance | None]] = []
    lock = threading.Lock()

    def look_up(sop_instance_uid: str) -> KnownInstance | None:
        with lock:
            if not opened:
                from dicom_node.index_look_up import open_look_up  # noqa: PLC0415

                opened.append(open_look_up(settings))
        return opened[0](sop_instance_uid)

    return look_up


def _obey_only_the_node() -> None:
    # Ctrl-C and a service manager's signal reach the whole group; the node decides.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _run_and_exit(work: Callable[[], None]) -> None:
    """Do the work of a forked process; nothing of what the node had begun runs here."""
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 - there is nobody to raise it to
        get_log().error("listener_failed", error=type(error).__name__)
    finally:
        os._exit(status)
