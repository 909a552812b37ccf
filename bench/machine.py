"""What the figures were measured on; nothing that would identify the machine."""

import importlib.metadata
import os
import platform
from pathlib import Path

import psutil

PACKAGES = ("autogen-core", "grpcio", "aiohttp", "uvicorn")


def facts() -> dict[str, str]:
    """CPU, system and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; everything ran on it",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
    }


def busy() -> float:
    """Seconds of CPU that all cores together have used since the machine started, for any process."""
    times = psutil.cpu_times()
    # Steal is time that the hypervisor gave to other machines. Guests' time is already part of user.
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
