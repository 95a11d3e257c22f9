"""Coverage-guided fuzzing of the decoder by atheris, which is not among the test requirements.

    pip install atheris
    PYTHONPATH=.:tests python tests/fuzz/coverage_guided.py FOLDER -max_total_time=1800

FOLDER gets the seeds and what it finds to be new; what breaks the promise is written beside it as crash-*, and belongs
into a test that makes it by code. Only Python is instrumented: of Pillow's C code it sees what comes back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stlm_hub.predict", "PIL", "pillow_heif"]):
    from fuzz.outcome import judged
    from fuzz.seeds import seed_pictures


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seed_pictures().items():
        (folder / name).write_bytes(data)
    options = ["-max_len=20000", "-timeout=10", "-rss_limit_mb=2500", f"-artifact_prefix={folder}/../crash-"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], lambda data: judged(data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
