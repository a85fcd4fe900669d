"""Where a stage listens: every address of a pod, which has its own, but only the loopback of a desktop."""

from __future__ import annotations

import os
import socket

from oikyo.api.stages import ADDRESS_VARIABLE


def listening(port: int) -> socket.socket:
    """A bound, listening TCP socket; raises OSError where the port or the address cannot be had."""
    address = os.environ.get(ADDRESS_VARIABLE, "")
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def listened(port: int) -> str:
    """The place in words, for messages."""
    return f"port {port} of {os.environ.get(ADDRESS_VARIABLE) or 'every address'}"
