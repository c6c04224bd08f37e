"""Films and pictures of recorded episodes: worlds side by side, each with its strip."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mjx_safety.core import files
from mjx_safety.viz.episodes import Recording
from mjx_safety.viz.frames import FrameDrawer
from mjx_safety.viz.strip import Strip

MAX_FPS = 25.0  # frames per second; a step may be shorter than a frame
GIF_FPS = 12.5  # frames per second: a .gif keeps every frame nearly whole
GAP = 4  # pixels between worlds
MOST_ABREAST = 4  # worlds in a row of a sheet of moments; more take several rows for each moment
LONGEST = 65535  # hundredths of a second, of a frame of a .gif
PAPER = 216
SUFFIXES = (".mp4", ".gif", ".png")
NO_ENCODER = (
    "writing .mp4 needs the package imageio-ffmpeg: pip install 'mjx-safety[viz]'; .gif, .png, .html need no more"
)


WatchFn = Callable[[Sequence[int]], Iterable[int]]


class EncoderError(RuntimeError):
    """The program that writes .mp4 failed. The message has its last words."""


class MissingPackageError(ImportError):
    """A package of the extra `viz` is missing. The message names it."""


@dataclasses.dataclass(frozen=True)
class Look:
    """The look of a film or picture."""

    camera: str = "track"
    width: int = 480  # pixels, of one world
    height: int = 360
    halo: bool = True  # the lidar readings above the robot
    speed: float = 1.0  # of the film, relative to simulated time


class Film:
    """Draws the frames of a recording. Close it, or use it as a context manager."""

    def __init__(self, recording: Recording, look: Look, columns: int | None = None):
        """columns: of worlds; by default they lie in a sheet that is about square."""
        self.recording: Recording = recording
        self.look: Look = look
        self.columns: int | None = columns
        returns, costs = recording.cumulative_return, recording.cumulative_cost
        self._strips = [
            Strip(look.width, returns[:, w], costs[:, w], recording.shown_limit, recording.env.dt)
            for w in range(recording.num_worlds)
        ]
        self._drawer = FrameDrawer(recording.env, look.width, look.height)

    def frame(self, step: int, since: int | None = None) -> np.ndarray:
        """Return the picture [H, W, 3] uint8 of all worlds at one step.

        since: the step of the frame before. The red ball then also marks a costly step between the two.
        """
        cells = []
        for world, strip in enumerate(self._strips):
            state, length = self.recording.at(step, world), int(self.recording.lengths[world])
            if since is not None:
                state = state.replace(cost=self.recording.states.cost[since + 1 : step + 1, world].max(initial=0.0))
            picture = self._drawer.draw(state, self.look.camera, halo=self.look.halo)
            cells.append(np.concatenate([picture, strip.draw(min(step, length), ended=step > length)]))
        return tile(cells, self.columns)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawer.close()


def tile(cells: list[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Put pictures [H, W, 3] of one size side by side, in a sheet that is about square unless `columns` is given."""
    columns = columns or math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    height, width = cells[0].shape[:2]
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), PAPER, np.uint8)
    for number, cell in enumerate(cells):
        y, x = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[y : y + height, x : x + width] = cell
    return sheet


def frame_steps(recording: Recording, speed: float, max_fps: float = MAX_FPS) -> tuple[list[int], float]:
    """Return the steps to show, the last one included, and frames per second."""
    dt = recording.env.dt
    rate = speed / dt if dt > 0 else max_fps  # steps per second of film; steps may take no time
    stride = max(1, math.ceil(rate / max_fps - 1e-9))
    steps = list(range(0, recording.num_steps + 1, stride))
    return steps if steps[-1] == recording.num_steps else [*steps, recording.num_steps], rate / stride


def write(recording: Recording, look: Look, path: Path, *, moments: int = 6, watch: WatchFn = iter) -> None:
    """Write a film (.mp4, .gif) or a sheet of some moments (.png), or nothing if it is interrupted.

    watch: yields the steps of a film one by one, and may show progress.
    Raises `opengl.NoOpenGLError` or `MissingPackageError` if this machine cannot draw or encode.
    """
    if path.suffix == ".mp4":
        check_encoder()
    abreast = recording.num_worlds if path.suffix == ".png" and recording.num_worlds <= MOST_ABREAST else None
    with Film(recording, look, abreast) as film:
        if path.suffix == ".png":
            steps = np.unique(np.linspace(0, recording.num_steps, moments + 1).round().astype(int)[1:])
            columns = None if recording.num_worlds == 1 else 1  # several worlds: a row for each moment
            sheet = tile([film.frame(int(step)) for step in steps], columns)
            with files.replacing(path) as file:
                Image.fromarray(sheet).save(file, "PNG", optimize=True)
            return
        steps, fps = frame_steps(recording, look.speed, GIF_FPS if path.suffix == ".gif" else MAX_FPS)
        frames = (film.frame(step, since) for since, step in _with_before(watch(steps)))
        if path.suffix == ".gif":
            _write_gif(frames, durations(len(steps), fps), path, palette=_palette(film))
        else:
            _write_mp4(frames, fps, path)


def _with_before(steps: Iterable[int]) -> Iterator[tuple[int | None, int]]:
    """Yield each step with the one before it."""
    before = None
    for step in steps:
        yield before, step
        before = step


def durations(num_frames: int, fps: float) -> list[int]:
    """Return how long each frame of a .gif stays, ms. The format counts hundredths of a second, which add up to fps."""
    ends = np.round(100.0 / fps * np.arange(num_frames + 1))
    return [10 * min(int(hundredths), LONGEST) for hundredths in np.diff(ends)]


def _palette(film: Film) -> Image.Image:
    """The colours of the film, including costly steps. All frames share them, so still parts do not flicker."""
    recording = film.recording
    costly = np.flatnonzero((np.asarray(recording.states.cost) > 0).any(axis=1))
    steps = {0, recording.num_steps // 2, recording.num_steps, *costly[:1], *costly[-1:]}
    return Image.fromarray(np.concatenate([film.frame(int(step)) for step in sorted(steps)])).quantize(256)


def _write_gif(frames: Iterator[np.ndarray], stays: list[int], path: Path, palette: Image.Image) -> None:
    images = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    with files.replacing(path) as file:
        first = next(images)
        first.save(file, "GIF", save_all=True, append_images=images, duration=stays, loop=0, optimize=False)


def check_encoder() -> str:
    """Return the path of the program that writes .mp4. Raises MissingPackageError if there is none."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:  # RuntimeError: the package lacks the program
        raise MissingPackageError(NO_ENCODER) from error


def _write_mp4(frames: Iterator[np.ndarray], fps: float, path: Path) -> None:
    """Pipe the frames to ffmpeg, as H.264 that every player and browser supports."""
    first = _even(next(frames))
    height, width = first.shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    coded = ["-an", "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [check_encoder(), "-y", "-loglevel", "error", *raw, *coded, "-f", "mp4"]
    with files.replacing(path) as file, tempfile.TemporaryFile() as said:
        with subprocess.Popen([*command, file.name], stdin=subprocess.PIPE, stderr=said) as encoder:
            assert encoder.stdin is not None
            try:
                for frame in itertools.chain([first], map(_even, frames)):
                    encoder.stdin.write(frame.tobytes())
                encoder.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg's own message follows
        if encoder.returncode:
            said.seek(0)
            raise EncoderError(f"ffmpeg could not write {path}: {said.read().decode(errors='replace').strip()}")


def _even(frame: np.ndarray) -> np.ndarray:
    """Drop the last row or column if their number is odd, because the codec needs even sizes."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
