"""What is measured, and what is asked of it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Work:
    """Connections that are sent events. `rate` is of one connection, 0 is full speed."""

    name: str
    connections: int
    size: int
    events: int
    runs: int = 1
    rate: int = 0
    #: Seconds of silence before memory is measured, if it is.
    settle: int = 0
    #: Peers besides seqgate and the plain relay; None is all of them.
    peers: tuple | None = ()

    def quick(self):
        """The same in a second or less."""
        least = 100 if self.rate else 20
        events = max(least, self.events // (10 if self.rate else 50))
        return replace(self, events=events, connections=min(self.connections, 200))


@dataclass(frozen=True)
class Handshakes:
    """Connections that are opened and closed, `workers` at a time."""

    name: str
    count: int
    workers: int
    peers: tuple | None = ("haproxy",)

    def quick(self):
        return replace(self, count=100)


KIB = 1024
MIB = 1024 * KIB

# About two seconds each at 1 GB/s, so that a hundredth of a second does not show.
WORKS = [
    Work("1k-10", 10, KIB, 200_000, peers=None),
    Work("1k-100", 100, KIB, 20_000, peers=None),
    Work("300-10", 10, 300, 400_000, peers=("envoy",)),
    Work("16k-10", 10, 16 * KIB, 12_000, peers=("envoy",)),
    Work("1m-10", 10, MIB, 200),
    Work("paced", 10, KIB, 4_000, rate=1_000, peers=None),
    Work("latency", 10, KIB, 2_000, rate=500, peers=("haproxy", "direct")),
    Handshakes("handshakes", 3_000, 4),
    Work("idle", 2_000, KIB, 20, settle=1, peers=None),
    Work("1k-1000", 1_000, KIB, 2_000),
    Work("1k-10-runs", 10, KIB, 200_000, runs=1_000),
]


@dataclass(frozen=True)
class Goal:
    """A bound on seqgate's figure, or on its ratio to that of a peer or of another work."""

    text: str
    work: str
    figure: str
    must: float
    moonshot: float
    #: A peer, or `None` where seqgate's own figure is bound.
    against: str | None = None
    #: Another work of seqgate's.
    base: str | None = None
    at_least: bool = False

    def met(self, value, bound):
        return value >= bound if self.at_least else value <= bound


GOALS = [
    *(
        Goal(f"CPU, 1 KiB events, {n} connections", f"1k-{n}", "cpu", must, moonshot, against=peer)
        for peer, must, moonshot in [
            ("relay", 0.8, 0.55),
            ("haproxy", 0.9, 0.65),
            ("nginx", 0.5, 0.35),
            ("envoy", 1.25, 0.9),
        ]
        for n in (10, 100)
    ),
    Goal("CPU, 300 B events, 10 connections", "300-10", "cpu", 0.9, 0.6, against="relay"),
    Goal("CPU, 16 KiB events, 10 connections", "16k-10", "cpu", 0.8, 0.6, against="relay"),
    Goal("CPU, 1 MiB frames, 10 connections", "1m-10", "cpu", 0.8, 0.35, against="relay"),
    Goal("CPU, paced, 10 × 1000 events/s", "paced", "cpu", 1.2, 1.0, against="relay"),
    Goal("throughput, 1 KiB, 10 connections", "1k-10", "throughput", 1.3, 2.0, against="relay", at_least=True),
    Goal("added p50 latency, 5,000 events/s", "latency", "added_p50", 1.1, 0.9, against="haproxy"),
    Goal("CPU, a handshake", "handshakes", "cpu", 1.5, 1.0, against="haproxy"),
    Goal("memory of an idle connection (PSS)", "idle", "pss", 6 * KIB, 3 * KIB),
    Goal("resident memory at start", "idle", "rss", 8 * MIB, 4 * MIB),
    Goal("syscalls an event, 1 KiB, full speed", "1k-10", "syscalls", 0.05, 0.02),
    Goal("syscalls an event, paced", "paced", "syscalls", 4, 3),
    Goal("CPU, 1,000 connections instead of 10", "1k-1000", "cpu", 1.15, 1.15, base="1k-10"),
    Goal("CPU, 1,000 runs each instead of 1", "1k-10-runs", "cpu", 1.15, 1.15, base="1k-10"),
]
