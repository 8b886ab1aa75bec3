"""What was measured, as Markdown: medians, and ratios within one round."""

import os
import platform
import re
from pathlib import Path
from statistics import median

from harness import micro
from harness.works import GOALS, WORKS

#: How figures are shown: the heading, the unit, the factor from seconds and bytes, the digits.
SHOWN = {
    "cpu": ("CPU time of an event, a frame or a handshake", "µs", 1e6, 3),
    "throughput": ("throughput", "events/s", 1, 0),
    "p50": ("latency, p50", "µs", 1e6, 1),
    "p99": ("latency, p99", "µs", 1e6, 1),
    "added_p50": ("latency added, p50", "µs", 1e6, 1),
    "pss": ("memory of a connection (PSS)", "KiB", 1 / 1024, 1),
    "rss": ("resident memory at start", "MiB", 1 / 1024**2, 1),
    "syscalls": ("system calls of an event", "", 1, 3),
}


def line(result):
    """One measurement, for whoever watches."""
    who = f"{result['work']:<12}{result['peer']:<10} round {result['round'] + 1}"
    return f"{who}: {', '.join(f'{name} {shown(name, result.get(name))}' for name in SHOWN if name in result)}"


def shown(name, value):
    _, unit, _, _ = SHOWN[name]
    return f"{number(name, value)} {unit}".strip()


def number(name, value):
    _, _, factor, digits = SHOWN[name]
    return "–" if value is None else f"{value * factor:,.{digits}f}"


class Results:
    """Figures by work and peer, a value a round."""

    def __init__(self, results):
        self.figures = {}
        for result in results:
            self.figures.setdefault((result["work"], result["peer"]), []).append(result)

    def values(self, work, peer, figure):
        if figure == "added_p50":
            without = self.values(work, "direct", "p50")
            return [with_it - none for with_it, none in zip(self.values(work, peer, "p50"), without)]
        return [r[figure] for r in self.figures.get((work, peer), []) if r.get(figure) is not None]

    def median(self, work, peer, figure):
        values = self.values(work, peer, figure)
        return median(values) if values else None


def render(results, peers, estimates):
    results = Results(results)
    parts = [machine(peers), goals(results, {peer.name: peer.title for peer in peers}, estimates)]
    parts += [figures(results, peers, figure) for figure in SHOWN]
    return "\n\n".join(filter(None, parts))


def machine(peers):
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(dict.fromkeys(peer.version for peer in peers if peer.version))
    model = model[1] if model else platform.processor()
    return f"{os.cpu_count()} × {model}, Linux {platform.release()}; {versions}."


def goals(results, titles, estimates):
    """The table of goals; rows that were not measured are left out."""
    rows = []
    for goal in GOALS:
        own = results.values(goal.work, "seqgate", goal.figure)
        if goal.against:
            other, others = titles.get(goal.against), results.values(goal.work, goal.against, goal.figure)
        elif goal.base:
            other, others = "1 KiB, 10 connections", results.values(goal.base, "seqgate", goal.figure)
        else:
            other, others = "", [1] * len(own)
        # A ratio to what is not above zero says nothing; latency can be lost in the noise.
        ratios = [a / b for a, b in zip(own, others) if b > 0]
        if not ratios:
            continue
        value = median(ratios)
        if other:
            theirs = shown(goal.figure, median(others))
            measured = f"{value:.2f}"
            if len(ratios) > 1:
                measured += f" ({min(ratios):.2f} to {max(ratios):.2f})"
            must, moonshot = f"{goal.must:g}", f"{goal.moonshot:g}"
        else:
            theirs, measured = "", ""
            must, moonshot = shown(goal.figure, goal.must), shown(goal.figure, goal.moonshot)
        ours = shown(goal.figure, median(own))
        bound = "≥" if goal.at_least else "≤"
        reached = verdict(goal.met(value, goal.must), goal.met(value, goal.moonshot))
        rows.append([goal.text, other, ours, theirs, measured, f"{bound} {must}", f"{bound} {moonshot}", reached])
    for name, text, must, moonshot in micro.GOALS:
        if name in estimates:
            value, must = estimates[name], estimates.get(must, must)
            reached = verdict(value <= must, value <= moonshot)
            rows.append([text, "", f"{value:,.0f} ns", "", "", f"≤ {must:,.0f} ns", f"≤ {moonshot:,} ns", reached])
    return markdown(["work", "against", "seqgate", "other", "ratio", "must", "moonshot", "reached"], rows)


def verdict(must, moonshot):
    return "moonshot" if moonshot else "must" if must else "no"


def figures(results, peers, figure):
    """The medians of one figure, a row a work."""
    # What a process has at its start does not depend on the work.
    works = ["idle"] if figure == "rss" else [work.name for work in WORKS]
    taking_part = [peer for peer in peers if any(results.values(work, peer.name, figure) for work in works)]
    rows = []
    for work in works:
        values = [results.median(work, peer.name, figure) for peer in taking_part]
        if any(value is not None for value in values):
            rows.append([work, *(number(figure, value) for value in values)])
    heading, unit, _, _ = SHOWN[figure]
    return markdown([f"{heading}, {unit}" if unit else heading, *(peer.title for peer in taking_part)], rows)


def markdown(heads, rows):
    if not rows:
        return ""
    table = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)
