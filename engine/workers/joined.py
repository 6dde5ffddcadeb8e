"""The pool of a machine that joined a head. It opens no database and imports no torch."""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.desk.remote import greeting
from engine.desk.wire import PIECE, Address, Answer, Call, Line, no_head, reason, refusal
from engine.errors import InputError
from engine.machine import devices, processes
from engine.workers.pool import Pool, naming


class JoinedPool(Pool):
    """Worker processes for a head, one for each of `slots`. They end when the head stops, and wait while it is away."""

    def __init__(
        self,
        head: Address,
        slots: list[devices.Device],
        cache: Path,
        *,
        paths: Mapping[str, str] | None = None,
        trust_models: bool = False,
    ) -> None:
        self.head, self.cache = head, cache
        self._hello = greeting("", 1, False, f"pool-{processes.mark()}.log")
        self.away: str | None = None  # why the head does not answer
        head.check_reachable()
        self._line = self._connect()
        self._sent, self._sending = 0, threading.Lock()  # bytes of the log
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = [*naming("--head", head), "--cache", str(cache), "--log", self.log.name]
        options += ["--paths", json.dumps(dict(paths))] if paths else []
        options += ["--trust-models"] if trust_models else []
        self._begin(options, slots)

    def _connect(self) -> Line | None:
        """A connection to the head; None if it does not answer. Raises InputError if it refuses this machine."""
        try:
            line = self.head.connect()
            line.send(self._hello)
            answer = line.receive(Answer)
        except OSError as error:
            if refused := refusal(error, self.head):
                raise InputError(refused) from None
            self.away = reason(error)
            return None
        except msgspec.DecodeError:
            raise InputError(no_head(self.head)) from None
        if answer.problem:
            raise InputError(str(answer.said))
        self.away = None
        return line

    @property
    def log(self) -> Path:
        """The file with its workers' output, on this machine."""
        return self.cache / "logs" / self._hello.log

    def _usable(self) -> bool:
        """Always True: workers may start, and the head refuses them if it must."""
        return True

    def _record(self, loads: list[devices.Load]) -> None:
        """Send the head a sample of this host's load and the workers' output."""
        with self._sending:
            self._line = self._line or self._connect()
            try:
                self._ask("loads", loads)
                with self.log.open("rb") as file:
                    file.seek(self._sent)
                    while text := file.read(PIECE):
                        self._ask("log", text)
                        self._sent += len(text)
            except (OSError, msgspec.DecodeError):
                if self._line:
                    self._line.close()
                self._line = None

    def _ask(self, name: str, *about: object) -> None:
        if self._line is None:
            raise ConnectionError
        self._line.send(Call(name, list(about)))
        self._line.receive(Answer)

    def _leave(self) -> None:
        with suppress(OSError, InputError):
            self._record([])

    def close(self) -> None:
        """Wait for the processes to end, then send their last output."""
        for slot in self._slots:
            slot.process.wait()
        self._leave()
