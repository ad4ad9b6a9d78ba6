"""Writes regions and what the reference tools draw for them. Needs: pip install pycocotools==2.0.11 pillow==13.0.0 numpy.
usage: make.py OUT_DIR

regions.json: cases {size [h, w], polygons | circle | runs | text, bits}. `bits` is the mask row by row, eight pixels to a
byte, the first in the highest bit, as hexadecimal digits.
Cases called coco* are drawn by pycocotools and must be met exactly. Cases called labelme* are drawn by PIL in the way of
LabelMe's own script, which takes corners for centres of pixels and also paints the outline: ours may differ within a pixel
of the outline."""
import json
import sys

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask

rng = np.random.default_rng(7)
h, w = 23, 37


def bits(m):
    return np.packbits(m.ravel()).tobytes().hex()


def coco(polygons):
    return mask.decode(mask.merge(mask.frPyObjects(polygons, h, w)))


polygons = {
    "square": [[3, 2, 30, 2, 30, 20, 3, 20]],
    "fractions": [[2.5, 2.5, 30.4, 3.1, 20.6, 19.9]],
    "clockwise": [[3, 20, 30, 20, 30, 2, 3, 2]],
    "star": [[18, 1, 25, 21, 6, 8, 31, 8, 11, 21]],
    "outside": [[-9.3, -4.2, 50.1, 3.3, 44, 30.7, 10, 40.2, -3, 11]],
    "sliver": [[1, 1, 36, 1.3, 36, 1.7, 1, 2]],
    "steep": [[5.1, 0, 5.9, 23, 7.2, 23, 6.8, 0]],
    "point": [[4.2, 4.2, 4.3, 4.2, 4.3, 4.3]],
    "two": [[2, 2, 12, 3, 8, 12], [6, 2, 20, 9, 4, 20]],
    "ties": [[0.5, 0.5, 36.5, 0.5, 36.5, 22.5, 0.5, 22.5]],
}
for i in range(20):
    n = int(rng.integers(3, 12))
    corners = rng.uniform(-6, 43, (n, 2)) * [1, h / w]
    polygons[f"random{i}"] = [[round(float(v), 2) for v in corners.ravel()]]

cases = {}
for name, polygon in polygons.items():
    drawn = coco(polygon)
    cases[f"coco_{name}"] = dict(size=[h, w], polygons=polygon, bits=bits(drawn))

for i, share in enumerate([0.0, 1.0, 0.5, 0.03]):
    m = (rng.random((h, w)) < share).astype(np.uint8)
    text = mask.encode(np.asfortranarray(m))["counts"].decode()
    flat = m.ravel(order="F")
    runs, value, at = [], 0, 0
    while at < len(flat):
        end = at
        while end < len(flat) and flat[end] == value:
            end += 1
        runs.append(end - at)
        value, at = 1 - value, end
    cases[f"coco_text{i}"] = dict(size=[h, w], text=text, bits=bits(m))
    cases[f"coco_runs{i}"] = dict(size=[h, w], runs=runs, bits=bits(m))

for name in ["square", "fractions", "star", "two", "random0", "random1"]:
    for i, polygon in enumerate(polygons[name]):
        image = Image.new("L", (w, h))
        corners = [tuple(p) for p in np.reshape(polygon, (-1, 2)).tolist()]
        ImageDraw.Draw(image).polygon(xy=corners, outline=1, fill=1)
        cases[f"labelme_{name}{i}"] = dict(size=[h, w], polygons=[polygon], bits=bits(np.array(image)))
circle = Image.new("L", (w, h))
ImageDraw.Draw(circle).ellipse([18 - 8.5, 11 - 8.5, 18 + 8.5, 11 + 8.5], outline=1, fill=1)
cases["labelme_circle"] = dict(size=[h, w], circle=[18, 11, 8.5], bits=bits(np.array(circle)))

with open(f"{sys.argv[1]}/regions.json", "w") as f:
    entries = [f" {json.dumps(name)}: {json.dumps(case, separators=(',', ':'))}" for name, case in cases.items()]
    f.write("{\n" + ",\n".join(entries) + "\n}\n")
