"""Side-by-side strips of one frame: what came in, what came out, what it was, where they differ.

    input 31.02 dB     restored 32.41 dB     clean
    [frame]            [frame]               [frame]
    [|difference| x 8] [|difference| x 8]

Frames keep their pixels: they are enlarged by a whole factor, never resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

AMPLIFY = 8  # a difference of 32 of 255 is white
WIDTH = 320  # pixels; narrower frames are enlarged up to this
MARGIN = 8
TEXT = 15  # pixels


def strip(
    frames: Mapping[str, Tensor],
    clean: Tensor,
    path: Path,
    pictures: Mapping[str, Tensor] | None = None,
) -> None:
    """Draw labelled frames beside the clean one, each over its difference from it, as a PNG.

    Args:
        frames: label -> uint8 (C, H, W), drawn from left to right; C is 3, or 1 for grey.
        clean: uint8 (C, H, W).
        path: where the PNG goes; its folder must exist.
        pictures: label -> the same, drawn without PSNR and difference: no restorations, but what
            one was made with, such as a mask.

    Raises:
        ValueError: a frame is not uint8 or not of the clean frame's shape.
    """
    for label, frame in {**frames, **(pictures or {})}.items():
        if frame.shape != clean.shape or frame.dtype != torch.uint8:
            raise ValueError(
                f"frame {label!r} is {frame.dtype} {tuple(frame.shape)}; "
                f"wanted: uint8 {tuple(clean.shape)}."
            )
    height, width = clean.shape[-2:]
    factor = max(1, WIDTH // width)
    step, line = width * factor + MARGIN, height * factor
    drawn = {**frames, **(pictures or {}), "clean": clean}
    size = (len(drawn) * step + MARGIN, 2 * (line + TEXT) + 5 * MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    top, middle = TEXT + 2 * MARGIN, line + TEXT + 3 * MARGIN
    for place, (label, frame) in enumerate(drawn.items()):
        left = MARGIN + place * step
        sheet.paste(_picture(frame, factor), (left, top))
        if label not in frames:
            draw.text((left, MARGIN), label, "black", font)
            continue
        draw.text((left, MARGIN), f"{label}  {_psnr(frame, clean)}", "black", font)
        draw.text((left, middle), f"|difference| x {AMPLIFY}", "black", font)
        difference = (frame.int() - clean.int()).abs().mul(AMPLIFY).clamp(max=255)
        sheet.paste(_picture(difference.to(torch.uint8), factor), (left, middle + TEXT + MARGIN))
    sheet.save(path)


def _picture(frame: Tensor, factor: int) -> Image.Image:
    colors = frame.cpu().expand(3, -1, -1)  # a frame of digits has one channel
    pixels = Image.fromarray(colors.permute(1, 2, 0).contiguous().numpy())
    return pixels.resize((pixels.width * factor, pixels.height * factor), Image.Resampling.NEAREST)


def _psnr(frame: Tensor, clean: Tensor) -> str:
    error = (frame.double() - clean.double()).square().mean().item()
    return f"{10 * math.log10(255**2 / error):.2f} dB" if error else "exact"
