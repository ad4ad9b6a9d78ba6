"""Writes the JPEG fixtures and what PIL decodes them to. Needs: pip install pillow==13.0.0 numpy.
usage: make.py OUT_DIR

Each NAME.jpg has a NAME.png beside it: PIL's RGB pixels (libjpeg-turbo, fancy upsampling). Other decoders may
differ by a few levels in colour edges; tests allow a mean difference of 1.5 and a largest one of 40."""
import sys
import numpy as np
from PIL import Image

out = sys.argv[1]
y, x = np.mgrid[0:23, 0:37]
rgb = np.stack([x * 255 // 36, y * 255 // 22, (x + y) * 255 // 58], -1).astype("uint8")
rgb[8:15, 10:20] = [200, 30, 40]
picture = Image.fromarray(rgb)
variants = {
    "baseline_420": (picture, dict(quality=95, subsampling=2)),
    "baseline_422": (picture, dict(quality=95, subsampling=1)),
    "baseline_444": (picture, dict(quality=95, subsampling=0)),
    "progressive_420": (picture, dict(quality=95, subsampling=2, progressive=True)),
    "gray": (picture.convert("L"), dict(quality=95)),
    "progressive_gray": (picture.convert("L"), dict(quality=95, progressive=True)),
    "restart_420": (picture, dict(quality=95, subsampling=2, restart_marker_blocks=2)),
    "cmyk": (picture.convert("CMYK"), dict(quality=95)),
    "rgb_transform_0": (picture, dict(quality=95, keep_rgb=True)),
}
for name, (image, options) in variants.items():
    image.save(f"{out}/{name}.jpg", **options)
    Image.open(f"{out}/{name}.jpg").convert("RGB").save(f"{out}/{name}.png", optimize=True)
