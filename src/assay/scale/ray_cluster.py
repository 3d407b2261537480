"""Joining a Ray cluster: the one that runs, a named one, or a new one on this machine."""

from __future__ import annotations

import logging
import socket

from assay.core.errors import NotAvailable
from assay.core.units import Seconds

CONNECT_S: Seconds = 5.0
ALONE = "--ray alone for one on this machine"


def join(address: str | None) -> None:
    """Connect this process, which must not be connected yet.

    ``address`` None: the cluster that runs here or that RAY_ADDRESS names, else a new one; ``"local"``: a new one.
    Raises NotAvailable where there is none.  The caller has made sure that Ray can be imported.
    """
    import ray

    # A cluster of our own gets no dashboard; of another's that cannot be said.
    dashboard = False if address in (None, "local") else None
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=dashboard)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise NotAvailable(
            f"there is no Ray cluster at {address or 'here'}: {str(error).splitlines()[0]}",
            remedy=f"ray start --head, then --ray auto; or {ALONE}",
        ) from error


def refuse_unreachable(address: str | None) -> None:
    """Raises NotAvailable where nothing answers; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotAvailable(
            f"nothing answers at {address} ({why})",
            remedy=f"ray start --head there, then the address it prints; or {ALONE}",
        ) from error


def gone(address: str | None) -> bool:
    """Whether the head of a cluster that was joined has ended: nobody listens at its address any more."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return False
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
