"""How models judge the same photographs after another light, focus, sensor, compression or position; and foreign ones.

    python benchmarks/robustness.py --data DIR --model mvtec-bottle --model mvtec-pill --output
    benchmarks/robustness.json

Of each model: good test photographs rejected and anomalous ones missed under each single mild disturbance; and what it
says of pictures that are not of its part: other parts, scikit-image's photographs, blank ones, noise, and photographs
of the part upside down, inverted, painted out with its own background, or half out of the frame. Other methods, which
have no threshold, get one as in `robustness_peers.py`:

    make peers
    python benchmarks/robustness.py --data DIR --peer patchcore=bottle --peer padim=bottle --output FILE
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import skimage.data
import typer
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.data_sets import MVTEC, SETS, PhotoSet, drawn_set, read_set  # noqa: E402
from benchmarks.figures import read_rows, write_rows  # noqa: E402
from benchmarks.robustness_peers import PEERS_PYTHON, peer_judge  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.cli.progress import progress_bars  # noqa: E402
from stlm_hub.predict.images import load_image  # noqa: E402
from stlm_hub.pseudo_anomalies.foreground import foreground  # noqa: E402
from stlm_hub.stlm import STLM  # noqa: E402

SCIKIT_IMAGE = ("astronaut", "chelsea", "coffee", "rocket", "page", "text", "coins", "clock", "camera", "moon")
SAMPLE = "sample-brick"
"""The model of sample photographs, which are drawn for it."""
UPRIGHT = ("toothbrush", "pill")
"""Parts that never lie turned in their good photographs, so that upside down is foreign."""

Change = Callable[[np.ndarray], np.ndarray]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after it was saved as JPEG."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    """The image with Gaussian noise of so many grey levels."""
    noise = np.random.default_rng(image.shape[0]).normal(0, deviation, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def brighter(image: np.ndarray, gain: float) -> np.ndarray:
    """The image times a factor."""
    return (image * gain).clip(0, 255).astype(np.uint8)


def fall_off(image: np.ndarray, share: float) -> np.ndarray:
    """Light that falls by this share from one side of the image to the other."""
    light = np.linspace(1 + share / 2, 1 - share / 2, image.shape[1])[None, :, None]
    return (image * light).clip(0, 255).astype(np.uint8)


def moved(image: np.ndarray, shift: float, degrees: float) -> np.ndarray:
    """The image shifted by a share of its sides and turned, without the border that no camera saw."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    right, down = shift * width, shift * height
    matrix[:, 2] += np.array((right, down))
    turned = abs(math.sin(math.radians(degrees))) / 2
    x, y = math.ceil(turned * height), math.ceil(turned * width)
    found = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return found[y + math.ceil(down) : height - y, x + math.ceil(right) : width - x].copy()


DISTURBANCES: dict[str, Change] = {
    "as it is": lambda image: image,
    "JPEG 70": lambda image: jpeg(image, 70),
    "noise 5": lambda image: noisy(image, 5),
    "gain +15 %": lambda image: brighter(image, 1.15),
    "gain -15 %": lambda image: brighter(image, 0.85),
    "fall-off 25 %": lambda image: fall_off(image, 0.25),
    "blur 1 px": lambda image: cv2.GaussianBlur(image, (0, 0), 1.0),
    "shift 2 %": lambda image: moved(image, 0.02, 0),
    "turn 2 degrees": lambda image: moved(image, 0, 2),
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
}


def painted_out(image: np.ndarray) -> np.ndarray | None:
    """The photograph without its part, which gives way to its own background; None where there is no background."""
    height, width = image.shape[:2]
    part: np.ndarray = foreground(cv2.resize(image, (512, 512))).astype(np.uint8)
    if part.mean() > 0.97:
        return None
    part = cv2.dilate(cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST), np.ones((9, 9), np.uint8))
    small = cv2.resize(image, (256, 256))
    hole = cv2.resize(part, (256, 256), interpolation=cv2.INTER_NEAREST)
    filled = cv2.resize(cv2.inpaint(small, hole, 5, cv2.INPAINT_TELEA), (width, height))
    grain = (image - cv2.GaussianBlur(image, (0, 0), 2).astype(np.float32))[part == 0].std()
    return np.where(part[..., None] > 0, noisy(filled, float(grain)), image)


def half_out(image: np.ndarray) -> np.ndarray | None:
    """The photograph with its part half out of the frame."""
    empty = painted_out(image)
    if empty is None:
        return None
    half = image.shape[1] // 2
    return np.concatenate([image[:, half:], empty[:, half:][:, : image.shape[1] - half]], axis=1)[:, : image.shape[1]]


def foreign(data: Path, part: str, good: Sequence[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures that are not of the part, with their kind."""
    for name in SCIKIT_IMAGE:
        image = getattr(skimage.data, name)()
        yield "photographs", cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image[..., :3].copy()
    for other in SETS:
        if other != part:
            found = read_set(data, other)
            for path in [*found.good[:8], *found.anomalous[:8]]:
                yield "other parts", load_image(path)
    rng = np.random.default_rng(0)
    for level in (0, 64, 128, 192, 255):
        yield "blank", np.full((512, 512, 3), level, np.uint8)
    for _ in range(5):
        yield "noise", rng.integers(0, 256, (512, 512, 3)).astype(np.uint8)
    for path in good[:12]:
        image = load_image(path)
        yield "inverted", 255 - image
        yield "mask", foreground(cv2.resize(image, (512, 512))).astype(np.uint8)[..., None].repeat(3, 2) * 255
        if part in UPRIGHT:
            yield "upside down", image[::-1, ::-1].copy()
        for kind, changed in (("part missing", painted_out(image)), ("half out of the frame", half_out(image))):
            if changed is not None:
                yield kind, changed


Judge = Callable[[Sequence[np.ndarray]], list[str]]
"""Photographs, HxWx3 uint8 RGB each -> a verdict for each."""


def measure(name: str, judge: Judge, found: PhotoSet, data: Path, limit: int) -> dict[str, Any]:
    """The row of one model.

    Args:
        name: of the model.
        judge: what the model says; called once, with all images.
        found: photographs of its part.
        data: folder with the sets, for other parts.
        limit: most good and most anomalous test photographs.
    """
    rng = np.random.default_rng(0)
    good = [load_image(found.good[i]) for i in rng.permutation(len(found.good))[:limit]]
    bad = [load_image(found.anomalous[i]) for i in rng.permutation(len(found.anomalous))[:limit]]
    changed = [change(image) for change in DISTURBANCES.values() for image in (*good, *bad)]
    others = list(foreign(data, found.name, found.good))
    verdicts = iter(judge([*changed, *(image for _, image in others)]))
    disturbances = {}
    for disturbance in DISTURBANCES:
        of_good, of_bad = ([next(verdicts) for _ in images] for images in (good, bad))
        disturbances[disturbance] = {
            "rejected": of_good.count("reject"),
            "unfamiliar": of_good.count("unfamiliar"),
            "missed": sum(verdict in ("pass", "review") for verdict in of_bad),
        }
    counts: dict[str, dict[str, int]] = {}
    for (kind, _), verdict in zip(others, verdicts, strict=True):
        of_kind = counts.setdefault(kind, {})
        of_kind[verdict] = of_kind.get(verdict, 0) + 1
    return {
        "model": name,
        "good": len(good),
        "anomalous": len(bad),
        "disturbances": disturbances,
        "foreign": counts,
    }


def judge_of(model: STLM) -> Judge:
    """A judge by a model of ours, which shows how far it is."""

    def judge(images: Sequence[np.ndarray]) -> list[str]:
        with progress_bars() as bars:
            return [model.predict(image).verdict for image in bars.track(images, description=str(model.name))]

    return judge


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints what each disturbance and each kind of foreign picture does."""
    table = Table(title="Good photographs rejected or unfamiliar / anomalous ones missed")
    table.add_column("")
    for row in rows:
        table.add_column(f"{row['model']} ({row['good']} / {row['anomalous']})", justify="right")
    for name in DISTURBANCES:
        cells = (row["disturbances"][name] for row in rows)
        table.add_row(name, *(f"{c['rejected'] + c['unfamiliar']} / {c['missed']}" for c in cells))
    console.print(table)
    for row in rows:
        passed = sum(counts.get("pass", 0) for counts in row["foreign"].values())
        total = sum(sum(counts.values()) for counts in row["foreign"].values())
        say(f"{row['model']}: {passed} of {total} foreign pictures pass. {row['foreign']}")


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets, see data_sets.py.")],
    output: Annotated[Path, typer.Option(help="JSON file; the rows of models that are measured anew are replaced.")],
    model: Annotated[list[str] | None, typer.Option(help="Models, NAME or NAME=SET; default: the zoo's.")] = None,
    limit: Annotated[int, typer.Option(help="Good and anomalous photographs of each model.")] = 20,
    peer: Annotated[list[str] | None, typer.Option(help="METHOD=SET, e.g. patchcore=bottle; needs: make peers")] = None,
    peers_python: Annotated[Path, typer.Option(help="Python of the peers' environment.")] = PEERS_PYTHON,
) -> None:
    """Measures models under disturbances and on foreign pictures."""
    rows = read_rows(output)

    def keep(row: dict[str, Any]) -> None:
        rows[:] = [r for r in rows if r["model"] != row["model"]] + [row]
        write_rows(output, "benchmarks/robustness.py", rows)

    with tempfile.TemporaryDirectory(prefix="stlm-samples-") as scratch:
        for given in dict.fromkeys(model or ([] if peer else [SAMPLE, *(f"mvtec-{part}" for part in MVTEC)])):
            name, _, part = given.partition("=")
            judge = judge_of(STLM.from_pretrained(name))
            if given == SAMPLE:
                found = drawn_set(Path(scratch))
            else:
                found = read_set(data, part or name.removeprefix("mvtec-"))
            keep(measure(name, judge, found, data, limit))
    for given in peer or []:
        method, _, part = given.partition("=")
        size, found = max(STLM.from_pretrained(f"mvtec-{part}").config.network.frame_size), read_set(data, part)
        with peer_judge(peers_python, method, found.train, size) as judge:
            keep(measure(f"{method}, {part}", judge, found, data, limit))
    show(rows)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
