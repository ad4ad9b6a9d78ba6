"""The training step alone in PyTorch eager: a network on one resident batch, tuned as the guides say.

Channels-last, fused AdamW, gradients set to None, global-norm clipping, bf16 autocast when asked, no host
synchronisation inside the timed loop, ReLUs in place. Masks are learnt with binary cross-entropy, heat-maps (HRNet) with the mean
squared error; both lie ready as floats. Prints one JSON line. With --plain, what a script has that nobody tuned: contiguous (NCHW)
tensors and AdamW as it comes.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

from reference_hrnet import HRNet  # noqa: E402
from reference_resnet import ResNetUnet  # noqa: E402
from reference_unet import UNet  # noqa: E402

LEAST_WARM_UP = 5


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the square images in pixels")
    parser.add_argument("--model", choices=["unet", "resnet_unet", "hrnet"], default="unet")
    parser.add_argument("--base", type=int, default=16, help="unet: width of the first level")
    parser.add_argument("--layers", type=int, default=34, help="resnet_unet: which ResNet")
    parser.add_argument("--width", default="w18", help="hrnet: which one")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=1, help="output channels: classes, or heat-maps")
    parser.add_argument("--dtype", choices=["fp32", "tf32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=50, help="timed steps")
    parser.add_argument("--warm", type=int, default=8, help=f"steps before the clock starts, at least {LEAST_WARM_UP}")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--plain", action="store_true", help="contiguous tensors, AdamW without fused=True")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry; the output is always one JSON line")
    chosen = parser.parse_args()
    if min(chosen.steps, chosen.size, chosen.base, chosen.batch, chosen.classes, chosen.threads) < 1:
        parser.error("sizes, steps and threads must be at least 1")
    if chosen.warm < LEAST_WARM_UP:
        parser.error(f"--warm must be at least {LEAST_WARM_UP}")
    return chosen


def network(o: argparse.Namespace) -> nn.Module:
    """The network with 3 channels in; ReLUs work in place, as published networks have them."""
    torch.relu = torch.relu_
    if o.model == "hrnet":
        model = HRNet(o.width, "concatenated", 3, o.classes)
    elif o.model == "resnet_unet":
        model = ResNetUnet(o.layers, 3, o.classes)
    else:
        model = UNet(inputs=3, classes=o.classes, base=o.base)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    return model


def resident_batch(o: argparse.Namespace, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised images [N,3,S,S] and targets: 0/1 masks [N,classes,S,S] or, for HRNet, maps at a quarter of S."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(o.batch, 3, o.size, o.size, generator=draw)
    side = o.size // 4 if o.model == "hrnet" else o.size
    masks = (torch.rand(o.batch, o.classes, side, side, generator=draw) < 0.3).float()
    return images.to(device, memory_format=memory_format(o)), masks.to(device)


def memory_format(o: argparse.Namespace) -> torch.memory_format:
    """The order of images and weights in memory."""
    return torch.contiguous_format if o.plain else torch.channels_last


def measure(o: argparse.Namespace) -> dict[str, object]:
    """Runs the warm-up and the timed steps and returns what is printed."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if o.device == "auto" else o.device
    device = torch.device(name)
    cuda = device.type == "cuda"
    torch.set_num_threads(o.threads)
    if cuda:
        torch.backends.cudnn.benchmark = True
        if o.dtype in ("fp32", "tf32"):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = o.dtype == "tf32"
    torch.manual_seed(0)
    model = network(o).to(device, memory_format=memory_format(o))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=not o.plain)
    x, y = resident_batch(o, device)
    criterion = F.mse_loss if o.model == "hrnet" else F.binary_cross_entropy_with_logits

    def step() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=o.dtype == "bf16"):
            outputs = model(x)
        outputs = outputs[0] if isinstance(outputs, list) else outputs
        loss = criterion(outputs.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    first = step()
    for _ in range(o.warm - 1):
        step()
    loss = first
    if cuda:
        torch.cuda.synchronize(device)
        # Events are only placed in the stream; they are read after the last synchronisation.
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(o.steps + 1)]
        start = time.perf_counter()
        marks[0].record()
        for mark in marks[1:]:
            loss = step()
            mark.record()
        torch.cuda.synchronize(device)
        total = time.perf_counter() - start
        each = [before.elapsed_time(after) for before, after in zip(marks, marks[1:])]
    else:
        ticks = [time.perf_counter()]
        for _ in range(o.steps):
            loss = step()
            ticks.append(time.perf_counter())
        total = ticks[-1] - ticks[0]
        each = [1e3 * (after - before) for before, after in zip(ticks, ticks[1:])]
    return {
        "bench": "step",
        "model": o.model,
        "peer": "torch",
        "step_ms": {"median": round(statistics.median(each), 3), "mean": round(1e3 * total / o.steps, 3)},
        "samples_per_s": round(o.batch * o.steps / total, 3),
        "loss_first": first.item(),
        "loss_last": loss.item(),
        "size": o.size,
        "base": o.base if o.model == "unet" else None,
        "batch": o.batch,
        "classes": o.classes,
        "dtype": o.dtype,
        "steps": o.steps,
        "warm": o.warm,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "conv_tf32": torch.backends.cudnn.allow_tf32 if cuda else False,
        "torch": torch.__version__,
    }


def main() -> None:
    """Measures and prints."""
    print(json.dumps(measure(arguments())))


if __name__ == "__main__":
    main()
