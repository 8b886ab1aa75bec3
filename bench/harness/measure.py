"""One measurement: a fresh proxy, one work, and every event checked by the clients."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import threading
import time

from harness.works import Handshakes, Work

#: Seconds after which a measurement has hung.
LIMIT = 120


class Failed(Exception):
    """An event did not arrive as it was sent, or a program broke."""


class Clients:
    """The clients' end, which waits for us between its steps."""

    def __init__(self, bench, port, work):
        self.command = [str(bench), *words(port, work)]
        self.process = subprocess.Popen(
            self.command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.watchdog = threading.Timer(LIMIT, self.process.kill)
        self.watchdog.start()

    def step(self):
        """The line that ends the step that is under way."""
        line = self.process.stdout.readline()
        if not line:
            raise Failed(self.process.stderr.read() or f"{' '.join(self.command)}: killed after {LIMIT} s")
        return line.strip()

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watchdog.cancel()
        self.process.kill()
        self.process.communicate()


def words(port, work):
    address = f"127.0.0.1:{port}"
    if isinstance(work, Handshakes):
        return ["handshakes", address, str(work.count), str(work.workers)]
    return ["clients", address, *map(str, (work.connections, work.size, work.events, work.runs, work.rate))]


#: First of all, so that nothing is counted that is done only once.
WARM_UP = Work("warm-up", 20, 1024, 500)


def measure(bench, peer, gateway, work, folder):
    """The figures of one work through one peer, in seconds and bytes, a unit each."""
    if peer.name == "direct":
        return figures(play(bench, gateway, work, None)[0], work)
    with peer.start(gateway, folder) as server:
        rss = server.rss()
        play(bench, server.port, WARM_UP, None)
        before = server.pss()
        result, cpu, pss = play(bench, server.port, work, server)
        found = figures(result, work) | {"cpu": cpu / result["events"], "rss": rss}
        if isinstance(work, Work) and work.settle:
            found["pss"] = (pss - before) / work.connections
        return found


def figures(result, work):
    found = {"throughput": result["events"] / result["seconds"]}
    if isinstance(work, Work) and work.rate:
        found |= {"p50": result["p50_ns"] / 1e9, "p99": result["p99_ns"] / 1e9}
    return found


def play(bench, port, work, server):
    """Plays a work; returns what the clients say, and the server's CPU time and its memory at the end."""
    with Clients(bench, port, work) as clients:
        clients.step()
        before = server.cpu() if server else 0
        clients.go_on()
        result = json.loads(clients.step())
        cpu = server.cpu() - before if server else 0
        time.sleep(0 if isinstance(work, Handshakes) else work.settle)
        pss = server.pss() if server else 0
        clients.go_on()
        if clients.step() != "closed" or clients.process.wait() != 0:
            raise Failed(f"{work.name}: the connections did not close")
        return result, cpu, pss


def syscalls(bench, peer, gateway, work, folder):
    """System calls of the proxy for an event, or None where nothing here can count them."""
    with peer.start(gateway, folder) as server, Clients(bench, server.port, work) as clients:
        clients.step()
        with counting(server.pids(), folder) as count:
            clients.go_on()
            result = json.loads(clients.step())
        return count() / result["events"] if count() is not None else None


@contextlib.contextmanager
def counting(pids, folder):
    """Counts system calls with perf, which does not slow them down, or else with strace."""
    report = folder / "syscalls"
    report.unlink(missing_ok=True)
    pids = ",".join(map(str, pids))
    perf = ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", pids, "-o", str(report)]
    strace = ["strace", "-c", "-f", "-p", pids, "-o", str(report)]
    probe = ["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"]
    if shutil.which("perf") and subprocess.run(probe, capture_output=True).returncode == 0:
        command, pattern = perf, r"^(\d+),,raw_syscalls"
    elif shutil.which("strace"):
        command, pattern = strace, r"^100[.,]00\s+\S+\s+\S+\s+(\d+).*total$"
    else:
        yield lambda: None
        return
    counter = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    # Neither says when it has attached itself.
    time.sleep(0.5)

    def count():
        found = re.search(pattern, report.read_text(), re.MULTILINE)
        return int(found[1]) if found else None

    try:
        yield count
    finally:
        counter.send_signal(signal.SIGINT)
        counter.wait()
