"""A real S3 server on this machine: versitygw over a folder, built like the kit's other programs."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pfs

from kit.binaries import binary

KEY_ID, KEY = "AKIAEXAMPLEREADER", "wJalrXUtnFEMI-not-a-real-key"


@dataclass
class ObjectStore:
    """A running server and how to reach it."""

    port: int
    process: subprocess.Popen[bytes]
    key: str = KEY
    address: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def files(self) -> Any:
        """A client of its own, to fill buckets with."""
        return pfs.S3FileSystem(
            access_key=KEY_ID,
            secret_key=self.key,
            endpoint_override=f"{self.address}:{self.port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def put(self, path: str, body: bytes) -> None:
        """Write the object `bucket/key`."""
        self.files.create_dir(path.partition("/")[0])
        with self.files.open_output_stream(path, compression=None) as stream:
            stream.write(body)

    def secret(self, folder: Path, **changed: str) -> Path:
        """A folder as the volume of a Secret shows it: links into a hidden folder."""
        values = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": self.key}
        values |= {"AWS_ENDPOINT_URL": self.url, **changed}
        (folder / "..data").mkdir(parents=True)
        for name, value in values.items():
            (folder / "..data" / name).write_text(f"{value}\n")
            (folder / name).symlink_to(Path("..data") / name)
        return folder

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def object_store(folder: Path, key: str = KEY, address: str = "127.0.0.1") -> Iterator[ObjectStore]:
    """A server whose buckets lie in `folder`, at one address of this machine."""
    (folder / "buckets").mkdir(parents=True)
    (folder / "metadata").mkdir()
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = int(probe.getsockname()[1])
    # Metadata beside the files: a temporary folder may lie where attributes cannot be written.
    options = ["--port", f"{address}:{port}", "--quiet", "posix", "--sidecar"]
    folders = [str(folder / "metadata"), str(folder / "buckets")]
    command = [str(binary("versitygw")), *options, *folders]
    environment = {**os.environ, "ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": key}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(address, port, process, folder / "log")
        yield ObjectStore(port, process, key, address)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def _wait(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}")


@contextmanager
def cutting_proxy(store: ObjectStore, cuts: int, after: int) -> Iterator[str]:
    """An address of `store` that breaks `cuts` connections once `after` bytes of an answer have passed."""
    left = [cuts]

    def pipe(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if answers and passed > after and left[0] > 0:
                    left[0] -= 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", store.port))
                for one, other, answers in ((client, server, False), (server, client, True)):
                    arguments = {"answers": answers}
                    threading.Thread(
                        target=pipe, args=(one, other), kwargs=arguments, daemon=True
                    ).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert left[0] == 0, "the proxy was not met"
        listener.shutdown(socket.SHUT_RDWR)
