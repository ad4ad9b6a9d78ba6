#!/usr/bin/env python3
"""The training step alone beside PyTorch eager, in alternating pairs, for the sizes that matter.

    python bench/step_pairs.py [--out FOLDER] [--pairs 5]

Runs pairs.py once for each row below, and in fp32 PyTorch untuned once; raw records go to FOLDER (default: records/step), and are printed. The command is
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

    network: str
    size: int
    batch: int
    precision: str
    steps: int
    warm: int


# What each network is called here, and for the peer.
NETWORKS = {
    "unet16": ({"model.base": 16, "loss.name": "bce"}, "--model unet --base 16"),
    "unet32": ({"model.base": 32, "loss.name": "bce"}, "--model unet --base 32"),
    "resnet34_unet": ({"model.name": "resnet_unet", "model.layers": 34, "loss.name": "bce"}, "--model resnet_unet --layers 34"),
    "hrnet_w18": ({"model.name": "hrnet", "model.width": "w18", "loss.name": "mse",
                   "landmarks.names": "[" + ",".join(f"p{k}" for k in range(29)) + "]"}, "--model hrnet --width w18 --classes 29"),
}
CPU = [Row(*row) for precision in ("fp32", "bf16") for row in (
    ("unet16", 128, 4, precision, 30, 8), ("unet16", 256, 4, precision, 10, 5), ("unet32", 128, 4, precision, 15, 5),
    ("unet32", 256, 4, precision, 6, 5), ("resnet34_unet", 256, 4, precision, 6, 5), ("hrnet_w18", 256, 4, precision, 6, 5))]
CUDA = [Row("unet16", 256, 8, "fp32", 200, 20), Row("unet16", 256, 8, "bf16", 200, 20), Row("unet16", 512, 32, "bf16", 100, 20),
        Row("unet32", 1024, 4, "bf16", 50, 10), Row("resnet34_unet", 256, 16, "bf16", 100, 20), Row("hrnet_w18", 256, 16, "bf16", 100, 20)]


def main() -> int:
    words = argparse.ArgumentParser(description="fullbore's step beside PyTorch's")
    words.add_argument("--out", type=Path, default=Path("records/step"))
    words.add_argument("--pairs", type=int, default=5)
    words.add_argument("--only", default="", help="rows whose name holds this, such as hrnet or 256_fp32")
    options = words.parse_args()

    here = Path(__file__).resolve().parent
    cuda = os.environ.get("FULLBORE_TEST_DEVICE", "").startswith("cuda")
    device = "cuda" if cuda else "cpu"
    ours = shlex.quote(os.environ.get("FULLBORE_BIN", "fullbore"))
    python = shlex.quote(sys.executable)
    failed = 0
    for row in CUDA if cuda else CPU:
        name = f"{device}_{row.network}_{row.size}_{row.precision}"
        if options.only not in name:
            continue
        network, network_of_peer = NETWORKS[row.network]
        peer = f"{python} {shlex.quote(str(here / 'step_torch.py'))} {network_of_peer} --size {row.size} --batch {row.batch} "
        peer += f"--dtype {row.precision} --steps {row.steps} --warm {row.warm} --device {device} --json"
        sets = {**network, "data.size": row.size, "batch.size": row.batch, "precision": row.precision, "device": device}
        change = f"{ours} bench step {' '.join(f'--set {k}={v}' for k, v in sets.items())} "
        change += f"--steps {row.steps} --warm {row.warm} --passes 1 --json"
        out = options.out / f"{name}.txt"
        out.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, str(here / "pairs.py"), "--pairs", str(options.pairs), "--key", "step_ms.median",
                               "--lower-is-better", "--out", str(out), "--baseline", peer, "--change", change])
        failed += done.returncode != 0
        if out.exists() and row.precision == "fp32":
            plain = subprocess.run(shlex.split(f"{peer} --plain"), capture_output=True, text=True)
            failed += plain.returncode != 0
            with out.open("a") as record:
                record.write(f"\n--- once, PyTorch untuned (--plain: NCHW, AdamW not fused):\n{plain.stdout or plain.stderr}")
        if out.exists():
            print(out.read_text(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
