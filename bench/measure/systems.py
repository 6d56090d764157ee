"""The two speech-to-text systems, each a process, behind one interface: the host, over HTTP, and faster-whisper,
by calls."""

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from .processes import HOST, Server, environment, read_line, started, whisper_host

#: Threads of the model, on both sides.
THREADS = 2
#: What faster-whisper calls the precisions of the host.
COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
#: Seconds that one answer may take.
PATIENCE = 1800


@dataclass
class Heard:
    """Transcription of a recording by a system, and its time."""

    text: str
    segments: list[dict]
    seconds: float


class Ours:
    name = "whisper-host"

    def __init__(self, server: Server):
        self.server = server

    def transcribe(self, files: list[Path], at_once: int = 1, **options) -> tuple[list[Heard], float]:
        """Transcribes each file with a separate client, `at_once` at a time. Returns also the seconds until all are done."""
        bodies = [file.read_bytes() for file in files]
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as clients:
            heard = list(clients.map(lambda body: self._request(body, options), bodies))
        return heard, time.perf_counter() - begun

    def _request(self, body: bytes, options: dict) -> Heard:
        begun = time.perf_counter()
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=PATIENCE)
        query = urlencode({name: value for name, value in options.items() if value is not None})
        connection.request("POST", f"/analyze?{query}", body)
        response = connection.getresponse()
        answer = json.loads(response.read())
        seconds = time.perf_counter() - begun
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"/analyze?{query} answered {response.status}: {answer}")
        return Heard(answer["transcription"], answer.get("segments", []), seconds)

    def peak_memory(self) -> int:
        return peak_memory(self.server.process.pid)


class Theirs:
    name = "faster-whisper"

    def __init__(self, process):
        self.process = process

    def ask(self, do: str, **command) -> dict:
        self.process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self.process.stdin.flush()
        return json.loads(read_line(self.process, self.name))

    def transcribe(self, files: list[Path], at_once: int = 1, **options) -> tuple[list[Heard], float]:
        # It always returns segment timestamps.
        options = {name: value for name, value in options.items() if name != "timestamps"}
        answer = self.ask("transcribe", files=[str(file) for file in files], at_once=at_once, **options)
        return [Heard(one["text"], one["segments"], one["seconds"]) for one in answer["heard"]], answer["seconds"]

    def batched(self, file: Path, **options) -> Heard:
        one = self.ask("batched", file=str(file), **options)
        return Heard(one["text"], one["segments"], one["seconds"])

    def peak_memory(self) -> int:
        return peak_memory(self.process.pid)


def peak_memory(pid: int) -> int:
    """Peak resident memory of the process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc says nothing of peak memory: this measurement needs Linux")


@contextmanager
def ours(model: Path, precision: str, state: Path, host: str = HOST):
    options = ["--model", str(model), "--precision", precision, "--inference-threads", str(THREADS), "--log", "warn"]
    with whisper_host(state, *options, host=host) as server:
        yield Ours(server)


@contextmanager
def theirs(model: Path, precision: str, threads: int = THREADS, workers: int = 1):
    """With its own thread settings: those of run.sh, one thread for all of Python, would slow its feature extraction."""
    command = [sys.executable, "bench/peer.py", str(model), COMPUTE_TYPES[precision], str(threads), str(workers)]
    limits = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    free = {name: value for name, value in environment().items() if name not in limits}
    with started(command, Theirs.name, free) as process:
        read_line(process, Theirs.name)
        yield Theirs(process)
