"""Publishing: one tagged commit of a folder that was checked, against a real HTTP server."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from hub_client import Client
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard, constants

from stlm_hub.errors import HubError
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.card.card import write_card
from stlm_hub.model_folder.provenance import Provenance
from stlm_hub.model_folder.publish import check_folder, dry_run, publish
from stlm_hub.model_folder.results import Results
from stlm_hub.model_folder.space import push

pytestmark = pytest.mark.usefixtures("toy_streams")


def config_of(files: dict[str, bytes], **network: Any) -> bytes:
    """config.json with another network."""
    config = json.loads(files["config.json"])
    return json.dumps({**config, "network": config["network"] | network}).encode()


def test_publishing_is_one_tagged_commit(
    hub: HubServer, client: Client, published: dict[str, str], model_folder: Path
) -> None:
    repo = hub.repos["org/stlm-good"]
    assert published == {
        "repo_id": "org/stlm-good",
        "revision": repo.refs["main"],
        "url": f"{hub.url}/org/stlm-good",
    }
    assert len(repo.commits) == 2 and repo.tags == {"v1": published["revision"]}  # the first one created the repository
    assert {name for name in repo.tree if name != ".gitattributes"} == {path.name for path in model_folder.iterdir()}
    assert repo.tree["model.safetensors"] == (model_folder / "model.safetensors").read_bytes()

    assert client("publish", str(model_folder), "org/stlm-good", token=TOKEN, tag="v1") == published
    assert len(repo.commits) == 2


def test_a_dry_run_checks_all_and_says_what_would_be_uploaded(
    published: dict[str, str], model_folder: Path, saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert dry_run(model_folder, published["repo_id"]) == {
        path.name: path.stat().st_size for path in model_folder.iterdir()
    }

    folder = shutil.copytree(saved_toy, tmp_path / "without a card")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    sizes = dry_run(folder, "org/stlm-part")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    card = write_card(folder, "org/stlm-part")
    assert sizes.pop("README.md") == card.stat().st_size and sizes == {name: len(data) for name, data in before.items()}

    facts.save(Results(provenance=Provenance(repo_id="your-name/part")), folder / "results.json")
    card.write_text(card.read_text().replace("org/stlm-part", "your-name/part"))
    before["README.md"] = card.read_bytes()
    assert dry_run(folder, "org/a")["README.md"] == len(before["README.md"]) - len("your-name/part") + len("org/a")
    assert card.read_bytes() == before["README.md"]
    sizes = dry_run(folder, "org/stlm-part")
    (folder / "export").mkdir()
    (folder / "export" / "model.onnx").touch()
    assert dry_run(folder, "org/stlm-part") == sizes, "an export is of this machine"
    (folder / "notes.docx").write_bytes(b"x")
    with pytest.raises(HubError, match="does not belong to a model"):
        dry_run(folder, "org/stlm-part")


@pytest.mark.parametrize("name", ["part", "a/b/c", "my org/part", "org/--part", "a/b.git", "../part", "a/" + 99 * "x"])
def test_a_name_that_no_repository_can_have_is_refused_before_anything_else(name: str, tmp_path: Path) -> None:
    for work in (dry_run, publish):
        with pytest.raises(HubError, match=r'is not the name of a repository; give it as "org/repo"'):
            work(tmp_path / "no folder", name)
    with pytest.raises(HubError, match="is not the name of a repository"):
        push(name)


def test_a_card_is_written_where_there_is_none(
    hub: HubServer, published: dict[str, str], model_folder: Path, saved_toy: Path
) -> None:
    assert not (saved_toy / "README.md").exists()
    card = ModelCard.load(model_folder / "README.md")
    assert card.data["library_name"] == "stlm_hub" and card.data["pipeline_tag"] == "image-segmentation"
    assert "bottle" in card.text and 'from_pretrained("org/stlm-good")' in card.text
    assert hub.repos["org/stlm-good"].tree["README.md"] == (model_folder / "README.md").read_bytes()


def test_publishing_a_change(hub: HubServer, client: Client, model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "plot.png").write_bytes(b"old")
    first = client("publish", str(folder), "org/stlm-changing", token=TOKEN, tag="v1")["revision"]
    (folder / "plot.png").unlink()
    (folder / "results.json").write_text("{}")
    assert "already stands for" in client.refuses("publish", str(folder), "org/stlm-changing", token=TOKEN, tag="v1")
    second = client("publish", str(folder), "org/stlm-changing", token=TOKEN, tag="v2")["revision"]
    repo = hub.repos["org/stlm-changing"]
    assert repo.tags == {"v1": first, "v2": second} and len(repo.commits) == 3
    assert "plot.png" not in repo.tree and repo.tree["results.json"] == b"{}" and ".gitattributes" in repo.tree


def test_a_memory_travels_and_goes_with_the_model(
    hub: HubServer, client: Client, saved_memory_toy: Path, model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    client("publish", str(folder), "org/stlm-memory", token=TOKEN, tag="v1")
    tree = hub.repos["org/stlm-memory"].tree
    assert tree["patch_memory.safetensors"] == (folder / "patch_memory.safetensors").read_bytes()
    assert client("load", "org/stlm-memory") == client("load", str(saved_memory_toy))
    client("publish", str(shutil.copytree(model_folder, tmp_path / "other")), "org/stlm-memory", token=TOKEN, tag="v2")
    assert "patch_memory.safetensors" not in hub.repos["org/stlm-memory"].tree


def test_a_memory_that_judges_alone_travels(
    hub: HubServer, client: Client, saved_memory_alone: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_memory_alone, tmp_path / "model")
    client("publish", str(folder), "org/stlm-alone", token=TOKEN, tag="v1")
    assert "model.safetensors" not in hub.repos["org/stlm-alone"].tree
    assert client("load", "org/stlm-alone") == client("load", str(saved_memory_alone))
    card = (folder / "README.md").read_text()
    assert "**No streams were trained**: the memory judges alone." in card and "distils Segment Anything" not in card


def test_publishing_needs_a_token(client: Client, model_folder: Path) -> None:
    for options in ({}, {"token": "hf_wrong"}):
        sentence = client.refuses("publish", str(model_folder), "org/stlm-new", **options)
        assert sentence.startswith("HubError") and "hf auth login" in sentence and "--token" in sentence


def test_folders_that_are_not_whole_are_not_published(
    hub: HubServer, client: Client, files: dict[str, bytes], model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    for name, content, sentence in (
        ("README.md", b"# no front matter", "no front matter"),
        ("README.md", b"---\ntags: [a\n---\n", "is not valid"),
        ("README.md", b"---\ntags: one\nlicense: mit\n---\n", "does not accept the card"),
        ("config.json", None, "config.json is missing"),
        ("calibration.json", None, "calibration.json is missing"),
        ("calibration.json", b'{"judge_by": "memory"}', "no memory of normal patches"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("config.json", config_of(files, aggregation_channels=64), "does not fit its config.json"),
        ("results.json", b'{"metrics": {}}', "is not what stlm_hub writes"),
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
    # Only the commit that created it, for the card that the server did not accept.
    assert len(hub.repos["org/stlm-broken"].commits) == 1


def test_a_folder_without_a_card_is_not_whole_by_itself(saved_toy: Path) -> None:
    with pytest.raises(HubError, match=r"README\.md is missing"):
        check_folder(saved_toy)


def test_push_to_hub(hub: HubServer, client: Client, saved_toy: Path, wanted: dict[str, object]) -> None:
    answer = client("push", str(saved_toy), "org/stlm-pushed", token=TOKEN, tag="notebook")
    repo = hub.repos["org/stlm-pushed"]
    assert answer == {"url": f"{hub.url}/org/stlm-pushed"} and repo.tags == {"notebook": repo.refs["main"]}
    assert repo.tree["config.json"] == (saved_toy / "config.json").read_bytes()
    assert b"library_name" in repo.tree["README.md"] and b'"org/stlm-pushed"' in repo.tree["README.md"]
    assert client("load", "org/stlm-pushed") == wanted
    assert "hf auth login" in client.refuses("push", str(saved_toy), "org/stlm-pushed", token="hf_wrong")


def test_the_card_names_the_repository_that_the_model_goes_to(model_folder: Path, tmp_path: Path) -> None:
    """A training does not know it yet; its card shows a place to fill in."""
    folder = shutil.copytree(model_folder, tmp_path / "part")
    (folder / "README.md").unlink()
    facts.save(Results(provenance=Provenance(repo_id="your-name/part")), folder / "results.json")
    card = '---\nlibrary_name: stlm_hub\n---\nmodel = STLM.from_pretrained("your-name/part")\n'
    (folder / "README.md").write_text(card)
    with pytest.raises(HubError, match="out of reach"):  # a port where nobody listens
        publish(folder, "org/stlm-part", token="x", endpoint="http://127.0.0.1:9")
    card = (folder / "README.md").read_text()
    assert 'from_pretrained("org/stlm-part")' in card and "your-name" not in card


def test_publishing_without_a_network_names_the_hub(
    client: Client, hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client.cut_off():
        sentence = client.refuses("publish", str(model_folder), "org/stlm-new", token=TOKEN)
    assert sentence.startswith(f"HubError: org/stlm-new is not uploaded: {hub.url} is out of reach. Check the network")
    with pytest.raises(HubError, match=r"org/x is not uploaded: http://127\.0\.0\.1:9 is out of reach"):
        publish(model_folder, "org/x", token="x", endpoint="http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so org/x cannot be uploaded; unset it"):
        publish(model_folder, "org/x", token="x", endpoint="http://127.0.0.1:9")


def test_a_folder_of_the_hub_that_cannot_be_written_is_named(
    hub: HubServer, published: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.write_text("a file where a folder should be: not even root can write in there")
    client = Client(hub.url, home)
    try:
        sentence = client.refuses("load", published["repo_id"])
        assert sentence.startswith(f"HubError: The Hub's files are kept in {home}, which cannot be used")
        assert "Set HF_HOME to a folder" in sentence
    finally:
        client.close()


def test_a_link_is_not_published(model_folder: Path, tmp_path: Path) -> None:
    private = tmp_path / "private.png"
    private.write_bytes(b"of nobody's business")
    folder = tmp_path / "linked"
    shutil.copytree(model_folder, folder)
    (folder / "scores.png").unlink(missing_ok=True)
    (folder / "scores.png").symlink_to(private)
    with pytest.raises(HubError, match=r"scores\.png is a link; put the file itself there"):
        check_folder(folder)
