"""Samples of many requests through the network together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Sample = TypeVar("Sample")
Answer = TypeVar("Answer")


class QueueFull(Exception):
    """More samples are waiting than there is room for."""


@dataclass(frozen=True)
class _Waiting(Generic[Sample, Answer]):
    sample: Sample
    answer: Future[Answer] = field(default_factory=Future)


class DynamicBatcher(Generic[Sample, Answer]):
    """One thread that answers whatever has come while it was busy with the batch before, `most` samples at once.

    So nobody waits for a batch to fill, and batches grow with the load. Up to `room` samples wait.
    """

    def __init__(self, answer: Callable[[Sequence[Sample]], Sequence[Answer]], most: int, room: int) -> None:
        self._answer, self._most = answer, most
        self._queue: queue.Queue[_Waiting[Sample, Answer] | None] = queue.Queue(room)
        self._open, self._door = False, threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take samples."""
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._open = True
        self._thread.start()

    def submit(self, sample: Sample) -> Future[Answer]:
        """The answer to come. Raises QueueFull if there is no room, or none are taken."""
        waiting: _Waiting[Sample, Answer] = _Waiting(sample)
        with self._door:
            if not self._open:
                raise QueueFull
            try:
                self._queue.put_nowait(waiting)
            except queue.Full as error:
                raise QueueFull from error
        return waiting.answer

    @property
    def waiting(self) -> int:
        """How many samples wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Answer what waits, then no more."""
        with self._door:
            self._open = False
        if self._thread:
            self._queue.put(None)  # after all that was taken
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        last = False
        while not last:
            batch, following = [], self._queue.get()
            while following is not None:
                batch.append(following)
                if len(batch) == self._most or self._queue.empty():
                    break
                following = self._queue.get()
            last = following is None
            self._settle([waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()])

    def _settle(self, batch: Sequence[_Waiting[Sample, Answer]]) -> None:
        if not batch:
            return
        try:
            answers = self._answer([waiting.sample for waiting in batch])
        except Exception as error:  # whoever asked is told, and the thread goes on
            for waiting in batch:
                waiting.answer.set_exception(error)
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.answer.set_result(answer)
