"""The micro-benchmarks' figures, as criterion leaves them."""

import json
import subprocess

#: Nanoseconds, or what else is measured, that the goals allow: name, text, must, moonshot. An event is looked at by its
#: form, in place of the whole of it.
GOALS = [
    ("form/300", "an event looked at, 300 B", "peek/300", 100),
    ("form/1024", "an event looked at, 1 KiB", "peek/1024", 100),
    ("form/16384", "an event looked at, 16 KiB", "peek/16384", 100),
    ("ledger/1000", "the ledger, 1,000 live runs", 80, 40),
]


def run(root, target):
    """Medians in nanoseconds by name."""
    subprocess.run(["cargo", "bench", "--locked", "--bench", "judge"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    estimates = {}
    for file in (target / "criterion").glob("*/*/new/estimates.json"):
        name = "/".join(file.parts[-4:-2])
        estimates[name] = json.loads(file.read_text())["median"]["point_estimate"]
    return estimates
