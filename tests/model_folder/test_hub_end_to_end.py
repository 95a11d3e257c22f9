"""Loading from a Hub, and everything that can go wrong on the way, against a real HTTP server.

The client is a process of its own: `HF_ENDPOINT` is read at import, and the cache starts empty.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from card_model import RESULTS
from hub_client import NETWORK_SECONDS, Client
from hub_server import TOKEN, HubServer

from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder import zoo_files
from stlm_hub.model_folder.provenance import Provenance


def changed(files: dict[str, bytes], name: str = "config.json", **changes: Any) -> bytes:
    """A small file with other values."""
    return json.dumps(json.loads(files[name]) | changes).encode()


def network(files: dict[str, bytes], **changes: Any) -> bytes:
    """config.json with another network."""
    return changed(files, network=json.loads(files["config.json"])["network"] | changes)


# ---------------------------------------------------------------- what is there


def test_a_published_model_predicts_the_same_bits(
    client: Client, published: dict[str, str], wanted: dict[str, object]
) -> None:
    assert client("load", "test-good") == wanted
    assert client("load", f"org/stlm-good@{published['revision']}") == wanted
    pulled = client("pull", "test-good")
    assert pulled["revision"] == published["revision"] and pulled["category"] == "bottle"
    assert client("resolve", "org/stlm-good") == client("resolve", "org/stlm-good", revision="v1") == pulled
    assert client("verify", "test-good") == {"problems": []}


def test_a_second_load_of_a_pinned_model_asks_nothing(
    hub: HubServer, client: Client, published: dict[str, str], wanted: dict[str, object]
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


def test_a_revision_decides_which_commit_is_loaded(hub: HubServer, client: Client, files: dict[str, bytes]) -> None:
    old = hub.put("org/stlm-two", files)
    new = hub.put("org/stlm-two", {"config.json": changed(files, category="new")})
    for name, options, commit, category in (
        ("org/stlm-two", {}, new, "new"),
        (f"org/stlm-two@{old}", {}, old, "bottle"),
        ("org/stlm-two", {"revision": old}, old, "bottle"),
        ("org/stlm-two@main", {}, new, "new"),
    ):
        answer = client("resolve", name, **options)
        assert (answer["revision"], answer["category"]) == (commit, category)


def test_all_files_are_of_one_commit_when_main_moves(hub: HubServer, client: Client, files: dict[str, bytes]) -> None:
    first = hub.put("org/stlm-moving", files)
    moved: list[str] = []
    other = {"config.json": changed(files, category="moved"), "model.safetensors": b"of another network"}
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


def test_results_of_a_model_on_the_hub(hub: HubServer, client: Client, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.put("org/stlm-results", files)
    assert client("results", "org/stlm-results") == {"alias": None}
    facts.save(facts.Results(provenance=Provenance(alias="known")), tmp_path / "results.json")
    hub.put("org/stlm-results", {"results.json": (tmp_path / "results.json").read_bytes()})
    assert client("results", "org/stlm-results") == {"alias": "known"}
    facts.save(RESULTS, tmp_path / "results.json")
    hub.put("org/stlm-results", {"results.json": (tmp_path / "results.json").read_bytes()})
    assert "is of another model.safetensors" in client.refuses("results", "org/stlm-results")


# ---------------------------------------------------------------- what is not what it should be


def test_altered_weights_are_refused_and_can_be_got_anew(
    hub: HubServer,
    client: Client,
    published: dict[str, str],
    wanted: dict[str, object],
    model_folder: Path,
    zoo_path: Path,
) -> None:
    commit = hub.put("org/stlm-altered", hub.repos["org/stlm-good"].tree)
    hub.corrupt("org/stlm-altered", "model.safetensors")
    zoo_files.register(model_folder, "test-altered", "org/stlm-altered", "apache-2.0", revision=commit, path=zoo_path)
    for name in ("test-altered", "org/stlm-altered"):
        sentence = client.refuses("load", name)
        assert sentence.startswith("WeightsError") and "altered or corrupted" in sentence, name
    assert "stlm zoo pull test-altered --force" in client.refuses("pull", "test-altered")
    assert "SHA-256" in client("verify", "test-altered")["problems"][0]

    hub.repos["org/stlm-altered"].corrupted.clear()
    assert "has SHA-256" in client.refuses("pull", "test-altered")  # the cache still has the altered file
    client("pull", "test-altered", force=True)
    assert client("load", "test-altered") == wanted


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.json", "config.json is not the one of zoo.json"),
        ("calibration.json", "calibration.json is not the one of zoo.json"),
        ("model.safetensors", "altered or corrupted"),
    ],
)
def test_other_files_than_the_zoo_says_are_refused(
    name: str,
    sentence: str,
    hub: HubServer,
    client: Client,
    model_folder: Path,
    zoo_path: Path,
    files: dict[str, bytes],
) -> None:
    zoo_files.register(model_folder, "test-swapped", "org/stlm-swapped", "apache-2.0", path=zoo_path)
    other = bytearray(files["model.safetensors"])
    other[-100] ^= 1
    content = bytes(other) if name == "model.safetensors" else files[name] + b" "
    hub.put("org/stlm-swapped", {**files, name: content})
    assert sentence in client.refuses("load", "test-swapped")


def test_missing_files_are_a_sentence(hub: HubServer, client: Client, files: dict[str, bytes]) -> None:
    hub.put("org/stlm-missing", files)
    hub.remove("org/stlm-missing", "model.safetensors")
    assert "WeightsError: org/stlm-missing has no model.safetensors" in client.refuses("load", "org/stlm-missing")
    hub.put("org/stlm-missing", {"pytorch_model.bin": b"\x80\x02evil"})
    assert "only as a pickle (pytorch_model.bin)" in client.refuses("load", "org/stlm-missing")
    for name in ("config.json", "calibration.json"):
        hub.put("org/stlm-missing", files)
        hub.remove("org/stlm-missing", name)
        assert f"HubError: org/stlm-missing has no {name}" in client.refuses("load", "org/stlm-missing")
    assert not list(client.home.rglob("*.bin"))


@pytest.mark.parametrize("name", ["patch_memory.safetensors", "familiarity.safetensors"])
def test_a_memory_or_familiarity_that_is_missing_is_a_sentence(
    name: str, hub: HubServer, client: Client, saved_memory_toy: Path
) -> None:
    hub.put("org/stlm-forgetful", {path.name: path.read_bytes() for path in saved_memory_toy.iterdir()})
    assert client("load", "org/stlm-forgetful") == client("load", str(saved_memory_toy))
    hub.remove("org/stlm-forgetful", name)
    sentence = client.refuses("load", "org/stlm-forgetful")
    assert sentence.startswith("HubError: A file of org/stlm-forgetful is missing on the Hub")


def test_a_pickle_under_the_name_of_safetensors_is_refused(
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
        ({"network": {"input_size": [10**9, 64]}}, "input_size must be a whole number"),
        ({"network": {"input_size": ["64", 64]}}, "input_size must be a whole number"),
        ({"network": {"aggregation_channels": 10**6}}, "aggregation_channels must be"),
        ({"network": {"feature_levels": ["decoder"] * 10**4}}, "feature_levels must name each level once"),
        ({"network": {"feature_levels": {"decoder": 1}}}, "feature_levels must be a list"),
        ({"network": []}, "network must be a JSON object"),
        ({"patch_memory": {"entries": 10**9}}, "patch_memory entries must be a whole number"),
        ({"patch_memory": {"backbone": "../evil"}}, "patch_memory backbone must be one of"),
        ({"auto_map": "evil.py"}, "has no field 'auto_map'"),
        ({"format_version": 99}, "pip install --upgrade"),
        ({"format_version": 1}, "saved in format 1 by an older stlm_hub"),
        ({"streams": False}, "A model needs streams or a patch_memory"),
        (b"not JSON", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"network": {}' + b" " * 1_000_001 + b"}", "larger than any model"),
        (b"\xff\xfe\x00", "not valid JSON"),
        ({"network": {"feature_levels": ["stage1", "embedding"]}}, "does not fit its config.json"),
        ({"network": {"input_size": [64, 64], "aggregation_channels": 64}}, "does not fit its config.json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_configs_are_refused(
    config: dict[str, Any] | bytes, sentence: str, hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    content = config if isinstance(config, bytes) else changed(files, **config)
    hub.put("org/stlm-hostile", {**files, "config.json": content})
    assert sentence in client.refuses("load", "org/stlm-hostile")


@pytest.mark.parametrize(
    ("judging", "sentence"),
    [
        ({"calibration": {"threshold": 0.5}}, "calibration in calibration.json lacks the field"),
        ({"judge_by": "memory"}, "no memory of normal patches"),
        ({"anomaly_map": "cosine"}, "has no field 'anomaly_map'"),  # of an older version
        ({"draw_by": "memory"}, "no memory of normal patches"),
        ({"familiarity_limits": [1.0]}, "familiarity_limits must be two numbers or none"),
        ({"score_top_k": 64 * 64 + 1}, "score_top_k must be at most"),
        ({"normal_scores": [2.0]}, "normal_scores must be a number"),
        (b"{}[", "not valid JSON"),
        (b"{}" + b" " * 1_000_001, "larger than any model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_calibrations_are_refused(
    judging: dict[str, Any] | bytes, sentence: str, hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    content = judging if isinstance(judging, bytes) else changed(files, "calibration.json", **judging)
    hub.put("org/stlm-hostile", {**files, "calibration.json": content})
    assert sentence in client.refuses("load", "org/stlm-hostile")


def test_a_hostile_config_is_refused_before_the_weights_are_downloaded(
    hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    hub.put("org/stlm-early", {**files, "config.json": b"{}["})
    hub.requests.clear()
    client.refuses("load", "org/stlm-early")
    assert hub.requests and not [request for request in hub.requests if "safetensors" in request]


# ---------------------------------------------------------------- a Hub that says no, or nothing


def test_names_that_the_hub_does_not_know(client: Client, published: dict[str, str]) -> None:
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
    assert time.monotonic() - start < NETWORK_SECONDS


def test_companions_of_a_model_of_the_cache_are_none_without_a_network(
    hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    commit = hub.put("org/stlm-lonely", {**files, "results.json": b"{}", "scores.json": b"[]"})
    assert client("companion", "org/stlm-lonely", "results.json") == {"text": "{}"}
    start = time.monotonic()
    with client.cut_off():
        for name in ("org/stlm-lonely", f"org/stlm-lonely@{commit}"):
            assert client("companion", name, "results.json") == {"text": "{}"}
        assert client("companion", f"org/stlm-lonely@{commit}", "scores.json") == {"text": None}
    assert time.monotonic() - start < NETWORK_SECONDS


def test_without_a_network_the_cache_serves(
    client: Client,
    published: dict[str, str],
    wanted: dict[str, object],
    model_folder: Path,
    zoo_path: Path,
) -> None:
    on_main = client("resolve", "org/stlm-good")
    client("pull", "test-good")
    zoo_files.register(model_folder, "test-never", "org/stlm-never", "apache-2.0", revision="0" * 40, path=zoo_path)
    start = time.monotonic()
    with client.cut_off():
        assert client("load", "test-good") == wanted
        assert client("resolve", "org/stlm-good") == on_main
        for name in ("test-never", "org/stlm-never"):
            sentence = client.refuses("load", name)
            assert sentence.startswith("HubError") and "out of reach" in sentence and "check the network" in sentence
        assert "out of reach" in client.refuses("publish", str(model_folder), "org/stlm-good", token=TOKEN)
    assert time.monotonic() - start < NETWORK_SECONDS
