"""How prepared values are stored: as whole numbers of 8 or 16 bits, from which [-1, 1] is read back (numpy only).

Sixteen bits over [-1, 1] are off by 1.5e-5 at most, whatever the value. Of float16 that is up to 2.4e-4 near -1 and 1
(3 mdB on a range of 25 dB), and numpy turns it into float32 several times slower: so floats are stored in this way too.
"""

from __future__ import annotations

import numpy as np

STEPS = 2**15 - 1  # of 16 bits on each side of 0
MASKED = {np.dtype(np.uint8): 255, np.dtype(np.uint16): STEPS + 1}
DECODING = {
    "uint8": "code * 2 / 255 - 1, and 0 where the mask is 0",
    "uint16": f"(code - {STEPS + 1}) / {STEPS}",
}


def encode(image: np.ndarray, mask: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Codes of an image (C, H, W) in [-1, 1], those of masked pixels (H, W) alike."""
    if kind == np.uint8:
        codes = np.rint((image + 1) * 127.5)
    else:
        codes = np.rint(image * np.float32(STEPS)) + (STEPS + 1)
    return np.where(mask, codes, MASKED[np.dtype(kind)]).astype(kind)


def decode(codes: np.ndarray, mask: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """float32 (C, H, W) in [-1, 1], 0 where the mask (1, H, W) is. Floats stand for themselves."""
    out = np.empty(codes.shape, np.float32) if out is None else out
    out[...] = codes
    if codes.dtype == np.uint8:
        out *= np.float32(2 / 255)
        out -= 1
        if not mask.all():
            out *= mask  # 8 bits have no code for 0; 1, the code of masked pixels, leaves no minus sign
    elif codes.dtype == np.uint16:
        out -= STEPS + 1
        out *= np.float32(1 / STEPS)
    return out
