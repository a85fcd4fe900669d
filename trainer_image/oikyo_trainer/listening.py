"""Where a stage listens: every address of a pod, which has its own, but only the loopback of a desktop."""

from __future__ import annotations

import os
import socket

ADDRESS = "OIKYO_ADDRESS"
"""Environment variable: the address to listen on; unset or empty means all, IPv6 and IPv4."""


def listening(port: int) -> socket.socket:
    """A bound, listening TCP socket; raises OSError where the port or the address cannot be had."""
    address = os.environ.get(ADDRESS, "")
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
