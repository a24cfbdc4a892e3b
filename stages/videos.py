"""Videos with the encoder that imageio-ffmpeg brings, or a line that says why there is none."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages import durable

ADVICE = "no picture: headless OpenGL is missing; `craik doctor` says what to install"


def write_video(path: Path, frames: Sequence[np.ndarray], hz: float | None) -> None:
    """Write frames, uint8 [H, W, 3], as H.264; beside the simulated speed where it is known.

    Without frames a line is written to `NAME.missing.txt` instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    missing = path.with_suffix(".missing.txt")
    if not frames:
        missing.write_text(ADVICE + "\n")
        return
    import imageio.v3 as iio

    rate = min(max(hz or 20.0, 5.0), 60.0)
    with durable.replaced(path) as partial, warnings.catch_warnings():
        # JAX warns of every fork; the encoder's process runs none of its code.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        iio.imwrite(
            partial,
            np.stack(frames),
            plugin="FFMPEG",
            fps=rate,
            codec="libx264",
            macro_block_size=2,  # keeps sizes that are no multiple of 16
            output_params=["-movflags", "+faststart"],
        )
    missing.unlink(missing_ok=True)
