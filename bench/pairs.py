"""Paired comparison of two commands: runs them alternately and compares one number of their outputs pair by pair.

Each command's standard output is searched for the last JSON line that holds --key (dots go into objects), or, with
--baseline-regex / --change-regex, for the last match of a pattern whose first group is the number. The side that goes
first changes with every pair. With several --baseline commands all of them run in every pair and the best one counts.
All raw outputs go to the record file, with a description of the machine; absolute paths are cut to their last part.

Example:
  pairs.py --pairs 5 --key samples_per_s --out records/step.txt \\
      --baseline "python bench/step_torch.py" --change "fullbore bench step --json"
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

STDERR_TAIL_LINES = 20
# Not after a letter, so that "samples/s" stays, nor after ":" or "/", so that web addresses stay.
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~-])/(?:[\w.+@-]+/)+([\w.+@-]*)")


class Failed(Exception):
    """A command failed or printed no figure; the text says which and why."""


@dataclass
class Side:
    """One command and how its number is found."""

    label: str
    command: str
    key: str
    pattern: re.Pattern[str] | None


def without_machine_paths(text: str) -> str:
    """Cuts absolute paths to their last part, so that a record can be published."""
    return ABSOLUTE_PATH.sub(lambda found: found.group(1) or "DIR/", text)


def look_up(record: object, key: str) -> float | None:
    """The number under a dotted key, or None."""
    for part in key.split("."):
        if not isinstance(record, dict) or part not in record:
            return None
        record = record[part]
    return float(record) if isinstance(record, int | float) and not isinstance(record, bool) else None


def find_figure(output: str, side: Side) -> float | None:
    """The figure in a command's standard output, or None when it is not there."""
    if side.pattern:
        matches = list(side.pattern.finditer(output))
        return float(matches[-1].group(1)) if matches else None
    for line in reversed(output.splitlines()):
        if not line.lstrip().startswith("{"):
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        figure = look_up(record, side.key)
        if figure is not None:
            return figure
    return None


def first_line(command: list[str]) -> str | None:
    """The first line a command prints, or None when it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else None


def from_file(path: str, start: str) -> str | None:
    """The value of the first `start: value` line of a file under /proc."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(start):
                return line.split(":", 1)[1].strip()
    except OSError:
        return None
    return None


def control_group(name: str) -> str | None:
    """A limit of the control group, or None when there is none."""
    try:
        text = Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
    return None if text.startswith("max") else text


def describe_machine(version_commands: list[str]) -> list[str]:
    """What the figures depend on, one line each; no host name and no paths."""
    lines = [
        f"date: {datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')}",
        f"cpu: {from_file('/proc/cpuinfo', 'model name') or platform.processor() or 'unknown'}",
        f"cores usable: {len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        f"memory: {from_file('/proc/meminfo', 'MemTotal') or 'unknown'}",
        f"kernel: {platform.system()} {platform.release()}",
        f"load before: {' '.join(f'{load:.2f}' for load in os.getloadavg())}",
        f"python (this runner): {platform.python_version()}",
    ]
    for name in ("memory.max", "cpu.max"):
        if limit := control_group(name):
            lines.append(f"control group {name}: {limit}")
    if gpu := first_line(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]):
        lines.append(f"gpu: {gpu}")
    if commit := first_line(["git", "describe", "--always", "--dirty"]):
        lines.append(f"commit: {commit}")
    for command in version_commands:
        lines.append(f"version: {first_line(['bash', '-c', command]) or 'unknown'} ({command})")
    return lines


def write(out: TextIO, text: str) -> None:
    """Appends to the record at once, so that an interrupted run keeps what it has."""
    out.write(without_machine_paths(text) + "\n")
    out.flush()


def run_once(side: Side, pair: int, out: TextIO) -> float:
    """Runs one command, records its raw output and returns its figure. Raises Failed."""
    started = time.monotonic()
    done = subprocess.run(["bash", "-c", side.command], capture_output=True, text=True, errors="replace")
    seconds = time.monotonic() - started
    write(out, f"--- pair {pair} {side.label}, exit {done.returncode}, {seconds:.1f} s: {side.command}")
    write(out, done.stdout.rstrip())
    if done.stderr.strip():
        write(out, f"[stderr]\n{done.stderr.rstrip()}")
    tail = "\n".join(done.stderr.rstrip().splitlines()[-STDERR_TAIL_LINES:])
    if done.returncode != 0:
        raise Failed(f"{side.label} failed with exit {done.returncode}: {side.command}\n{tail}")
    figure = find_figure(done.stdout, side)
    if figure is None:
        wanted = f"match of {side.pattern.pattern!r}" if side.pattern else f"JSON line with a number under {side.key!r}"
        raise Failed(f"{side.label} printed no {wanted}: {side.command}\n{tail}")
    if figure <= 0:
        raise Failed(f"{side.label} printed {figure}, which cannot be compared as a ratio: {side.command}")
    return figure


def pattern(text: str) -> re.Pattern[str]:
    """Reads a pattern of the command line; it must have a group for the number."""
    try:
        made = re.compile(text)
    except re.error as why:
        raise argparse.ArgumentTypeError(f"not a pattern: {why}") from why
    if made.groups < 1:
        raise argparse.ArgumentTypeError("the pattern needs one group around the number")
    return made


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--key", default="samples_per_s", help="dotted key of the figure in a JSON line")
    parser.add_argument("--out", type=Path, required=True, help="record file, written anew")
    parser.add_argument("--baseline", action="append", required=True, help="command; repeat it: the best of a pair counts")
    parser.add_argument("--change", required=True, help="command")
    parser.add_argument("--baseline-regex", type=pattern, help="for plain text: first group is the figure")
    parser.add_argument("--change-regex", type=pattern, help="for plain text: first group is the figure")
    parser.add_argument("--lower-is-better", action="store_true", help="the figure is a time or a size")
    parser.add_argument("--version-of", action="append", default=[], help="command whose first line goes into the record")
    chosen = parser.parse_args()
    if chosen.pairs < 1:
        parser.error("--pairs must be at least 1")
    return chosen


def compare(o: argparse.Namespace, out: TextIO) -> None:
    """Runs all pairs and prints and records the ratios. Raises Failed."""
    best = min if o.lower_is_better else max
    several = len(o.baseline) > 1
    baselines = [
        Side(f"baseline {n}" if several else "baseline", command, o.key, o.baseline_regex)
        for n, command in enumerate(o.baseline, start=1)
    ]
    change = Side("change", o.change, o.key, o.change_regex)
    write(out, "\n".join(describe_machine(o.version_of)))
    figure_name = f"--key {o.key}" + (", lower is better" if o.lower_is_better else ", higher is better")
    write(out, f"figure: {figure_name}; {o.pairs} alternating pairs; ratio = change / baseline\n")

    ratios = []
    for pair in range(1, o.pairs + 1):
        order = [*baselines, change] if pair % 2 else [change, *reversed(baselines)]
        figures = {side.label: run_once(side, pair, out) for side in order}
        winner = best(baselines, key=lambda side: figures[side.label])
        ratio = figures[change.label] / figures[winner.label]
        ratios.append(ratio)
        shown = ", ".join(f"{side.label} {figures[side.label]:g}" for side in [*baselines, change])
        against = f" (against {winner.label})" if several else ""
        text = f"pair {pair} [{order[0].label} first]: {shown}, ratio {ratio:.4f}{against}"
        print(text, flush=True)
        write(out, f"=== {text}\n")
    summary = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    better = "below" if o.lower_is_better else "above"
    text = "ratio change/baseline: " + ", ".join(f"{name} {value:.4f}" for name, value in summary.items())
    text += f" over {o.pairs} pairs ({better} 1: the change is better)"
    print(text)
    write(out, text)


def main() -> int:
    """Returns the exit code."""
    o = arguments()
    try:
        o.out.parent.mkdir(parents=True, exist_ok=True)
        with o.out.open("w") as out:
            try:
                compare(o, out)
            except Failed as why:
                write(out, f"*** stopped: {why}")
                raise
    except Failed as why:
        print(f"pairs.py: {why}", file=sys.stderr)
        return 1
    except OSError as why:
        print(f"pairs.py: cannot write the record: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pairs.py: interrupted; the record holds the runs made so far", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
