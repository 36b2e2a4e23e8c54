"""A wake-up from a worker to the node: something in the index became due.

What is due stands in the index, and the node looks there by itself now and then. The
bell, a message on a channel of the broker without content, only spares the wait. A
broker that is gone, frozen or emptied costs the time of one look.
"""

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Doorbell"]

_CHANNEL = "secondread:due"
_CONNECT_WITHIN_S = 1.0
_TRY_AGAIN_AFTER_S = 1.0


class Doorbell:
    """One end of the bell's wire; each process has its own.

    Parameters
    ----------
    settings
        `queue.broker_url`.
    client
        A connection to use instead of one by the settings.
    """

    def __init__(self, settings: Settings, client: "Redis | None" = None) -> None:
        self._url = settings.broker_url.replace("redis+socket://", "unix://", 1)
        self._given = client
        self._subscription: Any = None
        self._silent_until = 0.0

    @cached_property
    def _client(self) -> "Redis":
        if self._given is not None:
            return self._given
        # Not before it is needed: a node takes associations first.
        from redis import Redis  # noqa: PLC0415

        return Redis.from_url(
            self._url,
            socket_connect_timeout=_CONNECT_WITHIN_S,
            socket_timeout=_CONNECT_WITHIN_S,
        )

    def ring(self) -> bool:
        """Wake whoever listens; False if the broker does not answer now."""
        if time.monotonic() < self._silent_until:
            return False
        from redis.exceptions import RedisError  # noqa: PLC0415

        try:
            self._client.publish(_CHANNEL, b"")
        except (RedisError, OSError):
            # Whoever rings has better things to do than to wait for a dead broker.
            self._silent_until = time.monotonic() + _TRY_AGAIN_AFTER_S
            return False
        return True

    def wait(self, within_s: float) -> bool | None:
        """Wait for the bell.

        Returns
        -------
        True if it rang, or may have rung unheard before this call listened; False if it
        did not; None if the broker does not answer.
        """
        from redis.exceptions import RedisError  # noqa: PLC0415

        try:
            if self._subscription is None:
                # Its stubs say nothing of this one's types.
                subscription = self._client.pubsub(  # type: ignore[no-untyped-call]
                    ignore_subscribe_messages=True
                )
                subscription.subscribe(_CHANNEL)
                # Its confirmation, so that whatever rings from now on is heard.
                subscription.get_message(timeout=_CONNECT_WITHIN_S)
                self._subscription = subscription
                return True
            if self._subscription.get_message(timeout=within_s) is None:
                return False
            while self._subscription.get_message(timeout=0) is not None:
                pass  # many rings are one
        except (RedisError, OSError):
            self._subscription = None
            return None
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._subscription = None
        if "_client" in self.__dict__:
            self._client.close()
