"""A job of a cluster: its object from the API server, the log lines of its pods from their kubelets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import LABEL_ATTEMPT, LABEL_JOB, LABEL_STAGE
from oikyo.controller import pods
from oikyo.controller.cluster import Cluster, NotFoundError, RefusedError
from oikyo.controller.decide import finished
from oikyo.controller.kinds import FINE_TUNE_JOBS, PODS, Object
from oikyo.errors import SpecError

from .lines import LogLine, merged, stamped
from .place import Point, Wanted

LOOK_SECONDS = 2.0


class There:
    """One namespace of the kubeconfig's cluster; see `Place`. Reads, and never writes."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._curve: list[Point] = []

    @classmethod
    async def connect(cls, namespace: str) -> There:
        return cls(await Cluster.connect(), namespace)

    async def job(self, name: str) -> FineTuneJob:
        try:
            found = await self._cluster.get(FINE_TUNE_JOBS, self._namespace, name)
        except NotFoundError:
            known = [
                item["metadata"]["name"]
                async for item in self._cluster.list(FINE_TUNE_JOBS, self._namespace)
            ]
            names = ", ".join(sorted(known)) or "none"
            raise SpecError(
                f"there is no FineTuneJob {name} in namespace {self._namespace}\njobs there: {names}"
            ) from None
        job = FineTuneJob.model_validate(found)
        self._note(job)
        return job

    def _note(self, job: FineTuneJob) -> None:
        """The volume with the history is not here: the curve is what the status said while it was watched."""
        told = job.status.progress
        if told is None or told.stage != "train" or told.step is None:
            return
        if not self._curve or self._curve[-1]["step"] != told.step:
            values = {metric.name: float(metric.value) for metric in told.metrics}
            self._curve.append({"step": told.step, **values})

    def curve(self, job: FineTuneJob, *names: str) -> list[Point]:
        return self._curve

    async def lines(
        self, job: FineTuneJob, wanted: Wanted, *, follow: bool
    ) -> AsyncIterator[list[LogLine]]:
        if follow:
            async for piece in self._followed(job, wanted):
                yield piece
            return
        streams = [await self._read(pod) for pod in await self._pods(job, wanted)]
        if found := list(merged(streams)):
            yield found

    async def _pods(self, job: FineTuneJob, wanted: Wanted) -> list[Object]:
        selector = f"{LABEL_JOB}={job.metadata.name}"
        every = [pod async for pod in self._cluster.list(PODS, self._namespace, selector)]
        return [pod for pod in every if _stage_of(pod) and wanted.includes(*_stage_of(pod))]

    async def _read(self, pod: Object) -> list[LogLine]:
        texts: list[str] = []
        try:
            async for text in self._cluster.log(self._namespace, pod["metadata"]["name"]):
                texts.append(text)
        except (NotFoundError, RefusedError):
            pass  # gone meanwhile, or not started yet: it has nothing to say
        return list(stamped(_source(pod), texts, strip=True))

    async def _followed(self, job: FineTuneJob, wanted: Wanted) -> AsyncIterator[list[LogLine]]:
        lines: asyncio.Queue[LogLine] = asyncio.Queue()
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                over = finished((await self.job(job.metadata.name)).status)
                for pod in await self._pods(job, wanted):
                    uid = pod["metadata"]["uid"]
                    begun = pod.get("status", {}).get("phase") != "Pending"
                    if begun and uid not in tasks:
                        tasks[uid] = asyncio.create_task(self._pour(pod, lines))
                if over and tasks:
                    await asyncio.wait(tasks.values(), timeout=LOOK_SECONDS)
                else:
                    await asyncio.sleep(LOOK_SECONDS)
                if fresh := [lines.get_nowait() for _ in range(lines.qsize())]:
                    yield list(merged(_by_source(fresh)))
                if over and all(task.done() for task in tasks.values()):
                    return
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _pour(self, pod: Object, lines: asyncio.Queue[LogLine]) -> None:
        source = _source(pod)
        async for text in self._cluster.log(self._namespace, pod["metadata"]["name"], follow=True):
            for line in stamped(source, [text], strip=True):
                await lines.put(line)

    async def close(self) -> None:
        await self._cluster.close()


def _stage_of(pod: Object) -> tuple[str, int]:
    """Stage and attempt of a stage pod; a server's pod has neither."""
    labels = pod["metadata"].get("labels", {})
    return labels.get(LABEL_STAGE, ""), int(labels.get(LABEL_ATTEMPT, "0"))


def _source(pod: Object) -> str:
    stage, attempt = _stage_of(pod)
    return f"{stage}-{attempt}/{pods.rank(pod)}"


def _by_source(lines: list[LogLine]) -> list[list[LogLine]]:
    sources: dict[str, list[LogLine]] = {}
    for line in lines:
        sources.setdefault(line.source, []).append(line)
    return list(sources.values())
