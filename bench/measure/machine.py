"""The machine and the versions that were measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .processes import HOST, WASMTIME


def describe() -> dict[str, str]:
    return {
        **processor_and_commit(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": load(),
        "whisper-host": said(HOST, "--version").removeprefix("whisper-host "),
        "wasmtime": said(WASMTIME, "--version").removeprefix("wasmtime "),
        "rustc": said("rustc", "--version").removeprefix("rustc "),
        "Python": platform.python_version(),
        "packages": packages("faster-whisper", "ctranslate2", "transformers", "numpy"),
    }


def processor_and_commit() -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "commit": said("git", "describe", "--always", "--dirty"),
    }


def packages(*names: str) -> str:
    return ", ".join(f"{name} {version(name)}" for name in names)


def load() -> str:
    """Load average over the last minute, five and fifteen."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
