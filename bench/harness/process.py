"""Processes: started, measured through /proc, stopped."""

import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path


def raise_file_limit():
    """As many sockets as the system lets us have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process that listens on a port, with its children."""

    def __init__(self, name, command, port, folder, env=None):
        self.name = name
        self.port = port
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        try:
            self.wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def wait_until_it_listens(self):
        deadline = time.monotonic() + 20
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} does not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)

    def pids(self):
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found

    def cpu(self):
        """CPU seconds so far, user and system, of all threads: what /proc/PID/stat counts, but to the nanosecond.

        The clock of another process is its id's complement with the number 2 (scheduler time) behind it.
        """
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def pss(self):
        """Bytes of memory, what is shared with others counted in part."""
        return sum(kib(f"/proc/{pid}/smaps_rollup", "Pss") for pid in self.pids()) * 1024

    def rss(self):
        return sum(kib(f"/proc/{pid}/status", "VmRSS") for pid in self.pids()) * 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in self.pids():
                os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def kib(file, field):
    return int(re.search(rf"^{field}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)[1])
