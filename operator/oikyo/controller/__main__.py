"""python -m oikyo.controller: the controller process, from flags to a clean end."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys

from oikyo.errors import ClusterError

from .cluster import Cluster
from .config import Config, parse
from .process import Process

log = logging.getLogger("oikyo")

EXIT_OK = 0
EXIT_BROKEN = 1
"""Something that only a new process can mend; the kubelet starts one."""


def main(argv: list[str] | None = None) -> int:
    config = parse(argv)
    faulthandler.enable()
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    return asyncio.run(_run(config))


async def _run(config: Config) -> int:
    try:
        process = Process(config, await Cluster.connect(config.kubeconfig))
        return EXIT_OK if await process.run() else EXIT_BROKEN
    except ClusterError as error:
        log.error("cannot start: %s", error)
        return EXIT_BROKEN


if __name__ == "__main__":
    sys.exit(main())
