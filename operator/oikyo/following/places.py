"""Which place a command looks at: this desktop's home, or a namespace of the kubeconfig's cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from oikyo.desktop.home import Home
from oikyo.errors import OikyoError

from .place import Place


@asynccontextmanager
async def looking_at(home: Home, namespace: str | None) -> AsyncIterator[Place]:
    """The cluster when a namespace is named, else the home."""
    place = await _there(namespace) if namespace else _here(home)
    try:
        yield place
    finally:
        await place.close()


def _here(home: Home) -> Place:
    from .here import Here

    return Here(home)


async def _there(namespace: str) -> Place:
    if find_spec("kubernetes") is None:
        raise OikyoError(
            "the library kubernetes is not installed in this Python\n"
            "next: pip install 'oikyo[cli,operator]' to look at jobs of a cluster"
        )
    from .there import There

    return await There.connect(namespace)
