"""Publishing, loading, and everything that can go wrong between, against a real HTTP server.

The client is a process of its own: `HF_ENDPOINT` is read at import, and the cache starts empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import TOKEN, HubServer

from stlm_hub.model_folder import zoo_files

ROOT = Path(__file__).parents[2]

CLIENT = """
import functools, hashlib, json, sys
from pathlib import Path
import numpy as np
import torch
from stlm_hub.model_folder import hub, zoo, zoo_files
from stlm_hub.errors import STLMError
from stlm_hub.model_folder.publish import publish
from stlm_hub.stlm import STLM

torch.set_num_threads(1)
PHOTO = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)

def load(name, **options):
    prediction = STLM.from_pretrained(name, **options).predict(PHOTO)
    assert prediction.anomaly_map.shape == (80, 120) and prediction.anomaly_map.std() > 0
    return {"map": hashlib.sha256(prediction.anomaly_map.tobytes()).hexdigest()}

def files(local):
    assert local.config_path.parent == local.weights_path.parent
    category = json.loads(local.config_path.read_text())["category"]
    return {"revision": local.revision, "category": category, "sha256": hub.file_sha256(local.weights_path)}

def companion(name, file):
    path = hub.companion_file(hub.resolve(name), file)
    return {"text": path and path.read_text()}

def use_zoo(path):
    zoo.ZOO_PATH, zoo.CHECKOUT = Path(path), Path(path)

model = functools.cache(STLM.from_pretrained)
ACTIONS = {
    "load": load,
    "resolve": lambda name, **options: files(hub.resolve(name, **options)),
    "companion": companion,
    "pull": lambda alias, **options: files(zoo_files.pull(alias, **options)),
    "verify": lambda alias: {"problems": zoo_files.verify(alias).problems},
    "publish": lambda folder, repo_id, **options: vars(publish(Path(folder), repo_id, **options)),
    "push": lambda folder, repo_id, **options: {"url": model(folder).push_to_hub(repo_id, **options)},
    "use_zoo": use_zoo,
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
    """A process that uses the library as a user does. An exception that is no STLMError ends it, and the test."""

    def __init__(self, endpoint: str, home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "STLM_"))}
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.home = home
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
        assert answer["message"].endswith((".", "lfs pull", "stlm_hub")) and "\n" not in answer["message"]
        return f"{answer['error']}: {answer['message']}"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(hub.url, tmp_path_factory.mktemp("home"))
    yield client
    client.close()


@pytest.fixture(scope="module")
def files(saved_model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in saved_model.iterdir()}


@pytest.fixture(scope="module")
def wanted(client: Client, saved_model: Path) -> dict[str, str]:
    """What the client predicts with the saved model itself."""
    return client("load", str(saved_model))


@pytest.fixture(scope="module")
def zoo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "zoo.json"
    path.write_text('{"models": {}}')
    return path


@pytest.fixture(scope="module")
def published(hub: HubServer, client: Client, saved_model: Path, zoo_path: Path) -> dict[str, str]:
    """`saved_model` as org/stlm-good, published by the client, in the client's zoo as test-good."""
    answer = client("publish", str(saved_model), "org/stlm-good", token=TOKEN, tag="v1")
    assert "error" not in answer, answer
    zoo_files.register(
        saved_model, "test-good", "org/stlm-good", "apache-2.0", revision=answer["revision"], path=zoo_path
    )
    client("use_zoo", str(zoo_path))
    return answer


def config_of(files: dict[str, bytes], **changes: Any) -> bytes:
    return json.dumps(json.loads(files["config.json"]) | changes).encode()


# Publishing


def test_publishing_is_one_tagged_commit(
    hub: HubServer, client: Client, published: dict[str, str], saved_model: Path
) -> None:
    repo = hub.repos["org/stlm-good"]
    assert published == {
        "repo_id": "org/stlm-good",
        "revision": repo.refs["main"],
        "url": f"{hub.url}/org/stlm-good",
    }
    assert len(repo.commits) == 2 and repo.tags == {"v1": published["revision"]}  # the first one created the repository
    assert {name for name in repo.tree if name != ".gitattributes"} == {path.name for path in saved_model.iterdir()}
    assert repo.tree["model.safetensors"] == (saved_model / "model.safetensors").read_bytes()

    assert client("publish", str(saved_model), "org/stlm-good", token=TOKEN, tag="v1") == published
    assert len(repo.commits) == 2


def test_publishing_a_change(hub: HubServer, client: Client, saved_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_model, tmp_path / "model")
    (folder / "plot.png").write_bytes(b"old")
    first = client("publish", str(folder), "org/stlm-changing", token=TOKEN, tag="v1")["revision"]
    (folder / "plot.png").unlink()
    (folder / "results.json").write_text("{}")
    assert "already stands for" in client.refuses("publish", str(folder), "org/stlm-changing", token=TOKEN, tag="v1")
    second = client("publish", str(folder), "org/stlm-changing", token=TOKEN, tag="v2")["revision"]
    repo = hub.repos["org/stlm-changing"]
    assert repo.tags == {"v1": first, "v2": second} and len(repo.commits) == 3
    assert "plot.png" not in repo.tree and repo.tree["results.json"] == b"{}" and ".gitattributes" in repo.tree


def test_publishing_needs_a_token(client: Client, saved_model: Path) -> None:
    for options in ({}, {"token": "hf_wrong"}):
        sentence = client.refuses("publish", str(saved_model), "org/stlm-new", **options)
        assert sentence.startswith("HubError") and "hf auth login" in sentence and "--token" in sentence


def test_folders_that_are_not_whole_are_not_published(
    hub: HubServer, client: Client, files: dict[str, bytes], saved_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_model, tmp_path / "model")
    for name, content, sentence in (
        ("README.md", None, "README.md is missing"),
        ("README.md", b"# no front matter", "no front matter"),
        ("README.md", b"---\ntags: [a\n---\n", "is not valid"),
        ("README.md", b"---\ntags: one\nlicense: mit\n---\n", "does not accept the card"),
        ("config.json", None, "config.json is missing"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("config.json", config_of(files, aggregation_channels=64), "does not fit its config.json"),
        ("optimizer.pt", b"x", "looks like a pickle"),
        ("notes.docx", b"x", "does not belong to a model"),
        ("plot.png", bytes(21 * 2**20), "larger than 20 MB"),
    ):
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
        assert sentence in client.refuses("publish", str(folder), "org/stlm-broken", token=TOKEN), (name, sentence)
        (folder / name).unlink(missing_ok=True)
        if name in files:
            (folder / name).write_bytes(files[name])
    assert "There is no folder" in client.refuses("publish", str(folder / "none"), "org/stlm-broken", token=TOKEN)
    assert len(hub.repos["org/stlm-broken"].commits) == 1  # only the one that created it, for the card of the server's


def test_push_to_hub(hub: HubServer, client: Client, saved_model: Path, wanted: dict[str, str]) -> None:
    client("push", str(saved_model), "org/stlm-pushed", token=TOKEN, commit_message="From a notebook")
    tree = hub.repos["org/stlm-pushed"].tree
    assert tree["config.json"] == (saved_model / "config.json").read_bytes() and b"library_name" in tree["README.md"]
    assert client("load", "org/stlm-pushed") == wanted
    assert "hf auth login" in client.refuses("push", str(saved_model), "org/stlm-pushed", token="hf_wrong")


# Loading


def test_published_model_predicts_the_same_bits(
    client: Client, published: dict[str, str], wanted: dict[str, str], saved_model: Path
) -> None:
    assert client("load", "test-good") == wanted
    assert client("load", f"org/stlm-good@{published['revision']}") == wanted
    pulled = client("pull", "test-good")
    assert pulled["revision"] == published["revision"] and pulled["category"] == "bottle"
    assert client("resolve", "org/stlm-good") == client("resolve", "org/stlm-good", revision="v1") == pulled
    assert client("verify", "test-good") == {"problems": []}


def test_second_load_of_a_pinned_model_asks_nothing(
    hub: HubServer, client: Client, published: dict[str, str], wanted: dict[str, str]
) -> None:
    client("pull", "test-good")
    client("resolve", "org/stlm-good")
    hub.requests.clear()
    assert client("load", "test-good") == wanted
    client("resolve", "org/stlm-good", revision=published["revision"])
    client("resolve", "org/stlm-good", local_files_only=True)
    assert hub.requests == []
    client("resolve", "org/stlm-good")
    assert [request for request in hub.requests if not request.startswith("HEAD")] == ["GET /api/models/org/stlm-good"]


def test_revision_decides_which_commit_is_loaded(hub: HubServer, client: Client, files: dict[str, bytes]) -> None:
    old = hub.put("org/stlm-two", files)
    new = hub.put("org/stlm-two", {"config.json": config_of(files, category="new")})
    for name, options, commit, category in (
        ("org/stlm-two", {}, new, "new"),
        (f"org/stlm-two@{old}", {}, old, "bottle"),
        ("org/stlm-two", {"revision": old}, old, "bottle"),
        ("org/stlm-two@main", {}, new, "new"),
    ):
        answer = client("resolve", name, **options)
        assert (answer["revision"], answer["category"]) == (commit, category)


def test_config_and_weights_are_of_one_commit_when_main_moves(
    hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    first = hub.put("org/stlm-moving", files)
    moved: list[str] = []
    other = {"config.json": config_of(files, category="moved"), "model.safetensors": b"of another network"}
    hub.after("config.json", lambda: moved.append(hub.put("org/stlm-moving", other)))
    answer = client("resolve", "org/stlm-moving")
    assert moved and hub.repos["org/stlm-moving"].refs["main"] == moved[0]
    assert (answer["revision"], answer["category"]) == (first, "bottle")
    assert answer["sha256"] == hashlib.sha256(files["model.safetensors"]).hexdigest()


def test_companions_are_of_the_same_commit_and_kept(hub: HubServer, client: Client, files: dict[str, bytes]) -> None:
    old = hub.put("org/stlm-companion", {**files, "results.json": b"old"})
    assert client("companion", "org/stlm-companion", "results.json") == {"text": "old"}
    new = hub.put("org/stlm-companion", {"results.json": b"new"})
    assert client("companion", "org/stlm-companion", "results.json") == {"text": "new"}
    hub.requests.clear()
    assert client("companion", f"org/stlm-companion@{old}", "results.json") == {"text": "old"}
    assert client("companion", f"org/stlm-companion@{new}", "results.json") == {"text": "new"}
    assert hub.requests == []
    assert client("companion", "org/stlm-companion", "scores.json") == {"text": None}
    assert hub.requests


def test_companions_of_a_model_of_the_cache_are_none_without_a_network(
    hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    commit = hub.put("org/stlm-lonely", {**files, "results.json": b"{}", "scores.json": b"[]"})
    assert client("companion", "org/stlm-lonely", "results.json") == {"text": "{}"}
    with socket.socket() as closed:  # bound but not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        cut_off = Client(f"http://127.0.0.1:{closed.getsockname()[1]}", client.home)
        start = time.monotonic()
        for name in ("org/stlm-lonely", f"org/stlm-lonely@{commit}"):
            assert cut_off("companion", name, "results.json") == {"text": "{}"}
        assert cut_off("companion", f"org/stlm-lonely@{commit}", "scores.json") == {"text": None}
        assert time.monotonic() - start < 15
        cut_off.close()


def test_altered_weights_are_refused_and_can_be_got_anew(
    hub: HubServer, client: Client, published: dict[str, str], wanted: dict[str, str], saved_model: Path, zoo_path: Path
) -> None:
    commit = hub.put("org/stlm-altered", hub.repos["org/stlm-good"].tree)
    hub.corrupt("org/stlm-altered", "model.safetensors")
    zoo_files.register(saved_model, "test-altered", "org/stlm-altered", "apache-2.0", revision=commit, path=zoo_path)
    for name in ("test-altered", "org/stlm-altered"):
        sentence = client.refuses("load", name)
        assert sentence.startswith("WeightsError") and "altered or corrupted" in sentence, name
    assert "stlm zoo pull test-altered --force" in client.refuses("pull", "test-altered")
    assert "SHA-256" in client("verify", "test-altered")["problems"][0]

    hub.repos["org/stlm-altered"].corrupted.clear()
    assert "altered" in client.refuses("pull", "test-altered")  # the cache still has the altered file
    client("pull", "test-altered", force=True)
    assert client("load", "test-altered") == wanted


def test_other_weights_or_config_than_the_zoo_says_are_refused(
    hub: HubServer,
    client: Client,
    published: dict[str, str],
    saved_model: Path,
    zoo_path: Path,
    files: dict[str, bytes],
) -> None:
    zoo_files.register(saved_model, "test-swapped", "org/stlm-swapped", "apache-2.0", path=zoo_path)
    hub.put("org/stlm-swapped", {**files, "config.json": config_of(files, score_top_k=1)})
    assert "not saved together" in client.refuses("load", "test-swapped")
    other = bytearray(files["model.safetensors"])
    other[-100] ^= 1
    hub.put("org/stlm-swapped", {**files, "model.safetensors": bytes(other)})
    assert "altered or corrupted" in client.refuses("load", "test-swapped")


def test_missing_files_are_a_sentence(hub: HubServer, client: Client, files: dict[str, bytes]) -> None:
    hub.put("org/stlm-missing", files)
    hub.remove("org/stlm-missing", "model.safetensors")
    assert "WeightsError: org/stlm-missing has no model.safetensors" in client.refuses("load", "org/stlm-missing")
    hub.put("org/stlm-missing", {"pytorch_model.bin": b"\x80\x02evil"})
    assert "only as a pickle (pytorch_model.bin)" in client.refuses("load", "org/stlm-missing")
    hub.put("org/stlm-missing", files)
    hub.remove("org/stlm-missing", "config.json")
    assert "HubError: org/stlm-missing has no config.json" in client.refuses("load", "org/stlm-missing")
    assert not list(client.home.rglob("*.bin"))


def test_pickle_under_the_name_of_safetensors_is_refused(
    hub: HubServer, client: Client, files: dict[str, bytes], tmp_path: Path
) -> None:
    # Opens a file when it is unpickled.
    pickled = b"\x80\x04c__builtin__\nopen\n(V" + str(tmp_path / "ran").encode() + b"\nVw\ntR."
    hub.put("org/stlm-pickle", {**files, "model.safetensors": pickled})
    assert "is a pickle" in client.refuses("load", "org/stlm-pickle")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"image_size": 10**9}, "image_size must be a whole number"),
        ({"image_size": "64"}, "image_size must be a whole number"),
        ({"aggregation_channels": 10**6}, "aggregation_channels must be"),
        ({"feature_levels": ["decoder"] * 10**4}, "feature_levels must name each level once"),
        ({"feature_levels": {"decoder": 1}}, "feature_levels must be a list"),
        ({"calibration": {"threshold": 0.5}}, "calibration in config.json must have exactly"),
        ({"auto_map": "evil.py"}, "unknown fields"),
        ({"format_version": 99}, "pip install --upgrade"),
        (b"not JSON", "not valid JSON"),
        (b"[]", "must hold a JSON object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"image_size": 64' + b" " * 1_000_001 + b"}", "larger than any model"),
        (b"\xff\xfe\x00", "not valid JSON"),
        ({"feature_levels": ["stage1", "embedding"]}, "does not fit its config.json"),
        ({"aggregation_channels": 64}, "does not fit its config.json"),
    ],
)
def test_hostile_configs_are_refused(
    config: dict[str, Any] | bytes, sentence: str, hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    content = config if isinstance(config, bytes) else config_of(files, **config)
    hub.put("org/stlm-hostile", {**files, "config.json": content})
    assert sentence in client.refuses("load", "org/stlm-hostile")


def test_hostile_config_is_refused_before_the_weights_are_downloaded(
    hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    hub.put("org/stlm-early", {**files, "config.json": b"{}["})
    hub.requests.clear()
    client.refuses("load", "org/stlm-early")
    assert hub.requests and not [request for request in hub.requests if "safetensors" in request]


def test_names_that_the_hub_does_not_know(client: Client, hub: HubServer, published: dict[str, str]) -> None:
    assert "Did you mean test-good?" in client.refuses("load", "test-god")
    assert "There is no model org/nothing" in client.refuses("load", "org/nothing")
    assert 'org/stlm-good has no revision "v9"' in client.refuses("load", "org/stlm-good@v9")
    assert f'has no revision "{"0" * 40}"' in client.refuses("load", "org/stlm-good", revision="0" * 40)
    assert "is not in the cache" in client.refuses("load", "org/nothing", local_files_only=True)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((403, "GatedRepo"), "is gated: accept its terms"),
        ((401, ""), "refuses access to org/stlm-refused (HTTP 401): log in with `hf auth login`"),
        ((403, ""), "refuses access to org/stlm-refused (HTTP 403)"),
        ((429, ""), "asked too often"),
        ((503, ""), "answers with HTTP 503"),
    ],
)
def test_refusals_of_the_hub_are_sentences(
    answer: tuple[int, str], sentence: str, hub: HubServer, client: Client
) -> None:
    hub.refused["org/stlm-refused"] = answer
    start = time.monotonic()
    message = client.refuses("load", "org/stlm-refused")
    assert message.startswith("HubError") and sentence in message
    assert time.monotonic() - start < 15


def test_without_a_network_the_cache_serves(
    hub: HubServer,
    client: Client,
    published: dict[str, str],
    wanted: dict[str, str],
    saved_model: Path,
    zoo_path: Path,
) -> None:
    on_main = client("resolve", "org/stlm-good")
    client("pull", "test-good")
    zoo_files.register(saved_model, "test-never", "org/stlm-never", "apache-2.0", revision="0" * 40, path=zoo_path)
    with socket.socket() as closed:  # bound but not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        cut_off = Client(f"http://127.0.0.1:{closed.getsockname()[1]}", client.home)
        cut_off("use_zoo", str(zoo_path))
        assert cut_off("load", "test-good") == wanted
        assert cut_off("resolve", "org/stlm-good") == on_main
        start = time.monotonic()
        for name in ("test-never", "org/stlm-never"):
            sentence = cut_off.refuses("load", name)
            assert sentence.startswith("HubError") and "out of reach" in sentence and "check the network" in sentence
        assert "out of reach" in cut_off.refuses("publish", str(saved_model), "org/stlm-good", token=TOKEN)
        assert time.monotonic() - start < 15
        cut_off.close()
