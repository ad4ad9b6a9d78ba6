#!/usr/bin/env python3
"""The training step alone beside PyTorch eager, in alternating pairs, for the sizes that matter.

    python bench/step_pairs.py [--out FOLDER] [--pairs 5]

Runs pairs.py once for each row below; raw records go to FOLDER (default: records/step), and are printed. The command is
$FULLBORE_BIN, else `fullbore` from the path. FULLBORE_TEST_DEVICE=cuda measures the GPU. Needs torch 2.11.0.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison."""

    size: int
    batch: int
    precision: str
    steps: int
    warm: int


CPU = [Row(128, 4, "fp32", 40, 8), Row(128, 4, "bf16", 30, 8), Row(256, 8, "fp32", 10, 5), Row(256, 8, "bf16", 10, 5)]
CUDA = [Row(256, 8, "fp32", 200, 20), Row(256, 8, "bf16", 200, 20), Row(512, 32, "bf16", 100, 20)]


def main() -> int:
    words = argparse.ArgumentParser(description="fullbore's step beside PyTorch's")
    words.add_argument("--out", type=Path, default=Path("records/step"))
    words.add_argument("--pairs", type=int, default=5)
    options = words.parse_args()

    here = Path(__file__).resolve().parent
    cuda = os.environ.get("FULLBORE_TEST_DEVICE", "").startswith("cuda")
    device = "cuda" if cuda else "cpu"
    ours = shlex.quote(os.environ.get("FULLBORE_BIN", "fullbore"))
    python = shlex.quote(sys.executable)
    failed = 0
    for row in CUDA if cuda else CPU:
        peer = f"{python} {shlex.quote(str(here / 'unet_step_torch.py'))} --size {row.size} --base 16 --batch {row.batch} "
        peer += f"--dtype {row.precision} --steps {row.steps} --warm {row.warm} --device {device} --json"
        sets = {"data.size": row.size, "model.base": 16, "batch.size": row.batch, "loss.name": "bce",
                "precision": row.precision, "device": device}
        change = f"{ours} bench step {' '.join(f'--set {k}={v}' for k, v in sets.items())} "
        change += f"--steps {row.steps} --warm {row.warm} --passes 1 --json"
        out = options.out / f"{device}_{row.size}_{row.precision}.txt"
        out.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, str(here / "pairs.py"), "--pairs", str(options.pairs), "--key", "step_ms.median",
                               "--lower-is-better", "--out", str(out), "--baseline", peer, "--change", change])
        failed += done.returncode != 0
        if out.exists():
            print(out.read_text(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
