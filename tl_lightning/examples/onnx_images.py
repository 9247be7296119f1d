"""What an exported model says of images: python predict.py model.onnx new.jpg ...

It needs onnxruntime, numpy and Pillow alone.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["tl_lightning"])
(given,) = facts["inputs"]
side, crop = facts["preprocessing"]["eval_resize"], facts["preprocessing"]["eval_size"]
mode = Image.Resampling[facts["preprocessing"]["interpolation"].upper()]


def pixels(path: str) -> np.ndarray:
    """(1, H, W, 3) of 0..255: upright, on the ground of training, the short side resized, the centre cut out."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, facts["preprocessing"]["reading"]["ground"])
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    image, short = image.convert("RGB"), min(image.size)
    if given == "whole":  # the resize is in the file
        return np.asarray(image)[None]
    width, height = (side if length == short else int(side * length / short) for length in image.size)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    cut = image.resize((width, height), mode).crop((left, top, left + crop, top + crop))
    return np.asarray(cut)[None]


for path in sys.argv[2:]:
    answer = session.run(None, {given: pixels(path)})[0][0]
    order = np.argsort(-answer)[:3]
    sure = not facts["thresholds"] or answer[order[0]] >= facts["thresholds"][order[0]]
    named = [f"{facts['outputs'][k]} {answer[k]:.4f}" for k in order]
    print(path, *named, *([] if sure else ["below its threshold"]), sep="\t")
