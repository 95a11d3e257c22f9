"""A process that uses the library as a user of the Hub does, and answers what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NETWORK_SECONDS = 30  # a client that gave up at once is done by then; one that retries takes longer

PROGRAM = """
import functools, hashlib, json, socket, sys
from pathlib import Path
import huggingface_hub
import numpy as np
import pytest
import torch
import toy_streams
from stlm_hub.errors import STLMError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder import hub, zoo, zoo_files
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder import download, hub, zoo, zoo_files
from stlm_hub.model_folder.publish import publish
from stlm_hub.stlm import STLM

torch.set_num_threads(1)
toy_streams.install(pytest.MonkeyPatch())
PHOTO = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)

def load(name, **options):
    prediction = STLM.from_pretrained(name, **options).predict(PHOTO)
    assert prediction.anomaly_map.shape == (80, 120) and prediction.anomaly_map.std() > 0
    return {"map": hashlib.sha256(prediction.anomaly_map.tobytes()).hexdigest(), "threshold": prediction.threshold}

def files(local):
    category = json.loads((local.folder / "config.json").read_text())["category"]
    return {"revision": local.revision, "category": category, "sha256": file_sha256(local.folder / "model.safetensors")}

def companion(name, file):
    path = hub.companion_file(hub.resolve(name), file)
    return {"text": path and path.read_text()}

def use_zoo(path):
    zoo.ZOO_PATH, zoo.CHECKOUT = Path(path), Path(path)

connect = socket.socket.connect

def refuse(self, address):
    raise ConnectionRefusedError(111, "Connection refused")

def network(on):
    socket.socket.connect = connect if on else refuse
    huggingface_hub.close_session()  # connections that are open would go on serving

def timeout(seconds):
    hub.TIMEOUT = download.TIMEOUT = seconds

model = functools.cache(STLM.from_pretrained)
ACTIONS = {
    "load": load,
    "resolve": lambda name, **options: files(hub.resolve(name, **options)),
    "companion": companion,
    "results": lambda name: {"alias": (found := hub.results_of(hub.resolve(name))) and found.provenance.alias},
    "pull": lambda alias, **options: files(zoo_files.pull(alias, **options)),
    "verify": lambda alias: {"problems": zoo_files.verify(alias).problems},
    "publish": lambda folder, repo_id, **options: vars(publish(Path(folder), repo_id, **options)),
    "push": lambda folder, repo_id, **options: {"url": model(folder).push_to_hub(repo_id, **options)},
    "use_zoo": use_zoo,
    "network": network,
    "timeout": timeout,
}
for line in sys.stdin:
    action, arguments, options = json.loads(line)
    try:
        answer = ACTIONS[action](*arguments, **options) or {}
    except STLMError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print("answer " + json.dumps(answer), flush=True)
"""


class Client:
    """An exception in the process that is no STLMError ends it, and the test."""

    def __init__(self, endpoint: str, home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "STLM_"))}
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
        }
        self.home = home
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, action: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([action, arguments, options]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                return dict(json.loads(line.removeprefix("answer ")))
        raise AssertionError("the client died; its traceback is in the captured output")

    def refuses(self, action: str, *arguments: Any, **options: Any) -> str:
        """The kind of error and its sentence."""
        answer = self(action, *arguments, **options)
        assert "error" in answer, answer
        message = answer["message"]
        assert message.endswith((".", "lfs pull", "stlm_hub", "--force")) and message.isprintable(), message
        return f"{answer['error']}: {message}"

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Every connection is refused, as by a machine without a network."""
        self("network", False)
        try:
            yield
        finally:
            self("network", True)

    def close(self) -> None:
        """Ends the process, which has nothing left to do."""
        self._process.kill()
        self._process.wait(timeout=30)
