"""The Space: what its folder holds, that pushing makes the repository equal to it, and that it runs on its own."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from gradio_client import Client, handle_file
from hub_server import TOKEN, HubServer
from huggingface_hub import SpaceCard, constants
from packaging.requirements import Requirement
from PIL import Image

import stlm_hub
from benchmarks.page_process import serve
from stlm_hub.cli.main import main as cli
from stlm_hub.errors import HubError, WeightsError
from stlm_hub.model_folder import zoo, zoo_files
from stlm_hub.model_folder.space import PAGE, build, push

ROOT = Path(__file__).parents[2]
PACKAGE = Path(stlm_hub.__file__).parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"
EXAMPLES = {"crack.png", "stain.png", "hole.png", "scratch.png", "good_1.png", "good_2.png", "LICENSE.txt"}


@pytest.fixture
def own_zoo(saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of "test-bottle", which is not published and lies in $STLM_ZOO_DIR, and "test-nut", which is published."""
    path = tmp_path / "zoo.json"
    path.write_text('{"models": {}}')
    monkeypatch.setattr(zoo, "ZOO_PATH", path)
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path / "own"))
    monkeypatch.delenv("STLM_HUB_ORG", raising=False)
    shutil.copytree(saved_model, tmp_path / "own" / "test-bottle")
    (tmp_path / "own" / "test-bottle" / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A bottle\n")
    zoo_files.register(saved_model, "test-bottle", "someone/stlm-test-bottle", "apache-2.0")
    zoo_files.register(saved_model, "test-nut", "someone/stlm-test-nut", "apache-2.0", revision=COMMIT)
    return path


@pytest.fixture
def checkout(own_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose page is two files, with what running it leaves behind. `page` has a folder, too."""
    folder = tmp_path / "checkout"
    for name, content in {
        "pyproject.toml": "",
        "space/README.md": (ROOT / "space" / "README.md").read_text(encoding="utf-8"),
        "space/requirements.txt": "gradio\n",
        "space/app.py": "print('page')\n",
        "space/.gradio/flagged/photo.png": "private",
        "space/__pycache__/app.cpython-312.pyc": "",
        "space/stlm_page/__init__.py": "",
        "space/stlm_page/style.css": "body {}",
        "space/stlm_page/parts/text.py": "",
        "space/stlm_page/__pycache__/text.cpython-312.pyc": "",
        "space/stlm_page/.gradio/photo.png": "private",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(zoo, "CHECKOUT", folder)
    return folder


@pytest.fixture
def in_process_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hub's client as it has to be for the test Hub: nobody is logged in, and no xet."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def front_matter(readme: Path) -> dict[str, Any]:
    _, front, text = readme.read_text(encoding="utf-8").split("---\n", 2)
    assert text.lstrip().startswith("# ")
    return dict(yaml.safe_load(front))


# Building


def test_built_folder_holds_page_library_examples_and_unpublished_models_and_nothing_else(
    checkout: Path, saved_model: Path, tmp_path: Path
) -> None:
    made = build(tmp_path / "new" / "space")
    assert made == tmp_path / "new" / "space"
    page = {
        "README.md",
        "requirements.txt",
        "app.py",
        "stlm_page/__init__.py",
        "stlm_page/style.css",
        "stlm_page/parts/text.py",
    }
    library = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix == ".py" or path.name in ("zoo.json", "py.typed", "prompts.yaml")
    }
    model = {f"models/test-bottle/{path.name}" for path in saved_model.iterdir()} | {"models/test-bottle/README.md"}
    assert {"stlm_hub/stlm.py", "stlm_hub/models/stlm/network.py", "stlm_hub/model_folder/zoo.json"} < library
    wanted = (
        page
        | library
        | {"stlm_hub/model_folder/card/template/card.md.jinja"}
        | model
        | {f"examples/{name}" for name in EXAMPLES}
    )
    assert files_of(made) == wanted
    assert [path.name for path in made.parent.iterdir()] == ["space"]  # no scratch folder is left
    for name, source in (
        ("stlm_hub/model_folder/hub.py", PACKAGE / "model_folder" / "hub.py"),
        ("stlm_hub/model_folder/card/template/card.md.jinja", ROOT / "model_cards" / "template" / "card.md.jinja"),
        ("models/test-bottle/model.safetensors", saved_model / "model.safetensors"),
        ("stlm_page/style.css", checkout / "space" / "stlm_page" / "style.css"),
    ):
        assert (made / name).read_bytes() == source.read_bytes(), name


def test_front_matter_names_every_model_and_preloads_the_published_ones(checkout: Path, tmp_path: Path) -> None:
    made = front_matter(build(tmp_path / "space") / "README.md")
    assert made["models"] == ["someone/stlm-test-bottle", "someone/stlm-test-nut"]
    assert made["preload_from_hub"] == [
        "someone/stlm-test-nut config.json,model.safetensors,familiarity.safetensors,calibration.json,results.json,"
        f"README.md {COMMIT}"
    ]
    entry = zoo.load_zoo()["test-nut"]
    remembers = dataclasses.replace(entry, sha256=entry.sha256 | {"patch_memory.safetensors": "ab" * 32})
    zoo.save_zoo({"test-nut": remembers}, zoo.ZOO_PATH)
    (preloaded,) = front_matter(build(tmp_path / "other") / "README.md")["preload_from_hub"]
    assert "model.safetensors,patch_memory.safetensors,familiarity.safetensors,calibration.json" in preloaded
    committed = front_matter(checkout / "space" / "README.md")
    changed = {"models", "preload_from_hub"}
    assert {k: v for k, v in made.items() if k not in changed} == {
        k: v for k, v in committed.items() if k not in changed
    }


def test_only_the_chosen_models_are_in_the_space(checkout: Path, tmp_path: Path) -> None:
    first = build(tmp_path / "first", models=["test-bottle"])
    assert "preload_from_hub" not in front_matter(first / "README.md")
    assert front_matter(first / "README.md")["models"] == ["someone/stlm-test-bottle"]
    entries = zoo.load_zoo(first / "stlm_hub" / "model_folder" / "zoo.json")
    assert entries == {"test-bottle": zoo.load_zoo()["test-bottle"]}
    second = build(tmp_path / "second", models=["test-nut"])
    assert not (second / "models").exists()
    assert zoo.load_zoo(second / "stlm_hub" / "model_folder" / "zoo.json") == {"test-nut": zoo.load_zoo()["test-nut"]}


def test_examples_are_photographs(checkout: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "space", models=["test-nut"]) / "examples"
    pictures = {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}
    assert all(picture.shape == (256, 256, 3) and picture.std() > 10 for picture in pictures.values())
    assert len({picture.tobytes() for picture in pictures.values()}) == 6
    assert "CC0" in (folder / "LICENSE.txt").read_text()


def test_folder_that_holds_something_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(HubError, match=r"space already exists and is not empty; delete it or choose"):
        build(folder)
    assert files_of(folder) == {"thesis.txt"}
    (folder / "thesis.txt").unlink()
    assert (build(folder, models=["test-nut"]) / "app.py").is_file()  # an empty one will do
    with pytest.raises(HubError, match=r"app\.py already exists"):
        build(folder / "app.py")


def test_models_that_cannot_go_into_a_space_are_refused_and_nothing_is_left(checkout: Path, tmp_path: Path) -> None:
    target, own = tmp_path / "new" / "space", tmp_path / "own" / "test-bottle"
    with pytest.raises(HubError, match="Did you mean test-bottle"):
        build(target, models=["test-botle"])
    with pytest.raises(HubError, match="A Space needs a model"):
        build(target, models=[])
    (own / "notes.docx").write_text("private")
    with pytest.raises(HubError, match=r"notes\.docx does not belong to a model"):
        build(target)
    (own / "notes.docx").unlink()
    weights = bytearray((own / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (own / "model.safetensors").write_bytes(weights)
    with pytest.raises(HubError, match=r"SHA-256 .* Only the model of zoo\.json"):
        build(target)
    (own / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        build(target)
    shutil.rmtree(own)
    with pytest.raises(HubError, match="test-bottle is not on the Hub yet and not on this machine; set STLM_ZOO_DIR"):
        build(target)
    assert not target.parent.exists()


def test_a_build_that_fails_half_way_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    (checkout / "space" / "stlm_page" / "gone.css").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HubError, match=r"cannot be written .*gone\.css"):
        build(tmp_path / "new" / "space")
    assert list((tmp_path / "new").iterdir()) == []
    (checkout / "space" / "app.py").unlink()
    with pytest.raises(HubError, match=r"app\.py is missing, which the Space needs; install stlm_hub again"):
        build(tmp_path / "new" / "space")


# What is committed


def test_front_matter_is_whole() -> None:
    readme = ROOT / "space" / "README.md"
    front = front_matter(readme)
    assert SpaceCard(readme.read_text(encoding="utf-8")).data.to_dict() == front
    assert (front["sdk"], front["app_file"], front["license"]) == ("gradio", "app.py", "apache-2.0")
    assert (front["python_version"], front["sdk_version"]) == ("3.12", "6.31.0")  # texts, not numbers
    assert {"title", "emoji", "tags", "pinned", "fullWidth", "suggested_hardware"} <= set(front)
    assert len(front["short_description"]) <= 60 and front["header"] == "mini"
    assert re.fullmatch(r"\d+[smh]", front["startup_duration_timeout"])
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {front["colorFrom"], front["colorTo"]} <= colours
    assert set(front["models"]) <= {entry.repo_id for entry in zoo.list_models()}
    assert "preload_from_hub" not in front  # `build` writes it


def test_requirements_agree_with_pyproject() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    core, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    lines = (ROOT / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = {Requirement(line).name: Requirement(line) for line in lines if line and not line.startswith("#")}
    gradio, gradio_bounds = found.pop("gradio"), Requirement(extras["space"][0])
    assert found.pop("spaces") == Requirement(extras["space"][1])
    page = [text for text in extras["space"][2:] if not text.startswith("stlm_hub")]
    parts = core + extras["torch"] + extras["train"] + extras["export"]
    library = [text for text in parts if not text.startswith("stlm_hub")]
    expected = {str(Requirement(text)) for text in library + page}
    assert {str(wanted) for wanted in found.values()} == expected
    sdk = front_matter(ROOT / "space" / "README.md")["sdk_version"]
    assert str(gradio.specifier) == f"=={sdk}" and sdk in gradio_bounds.specifier
    assert gradio.extras == gradio_bounds.extras == {"mcp"}

    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {k: v for k, v in wheel.items() if k.startswith("space")} == {
        f"space/{name}": f"stlm_hub/space_files/{name}" for name in PAGE
    }


# Pushing


def test_first_push_creates_a_space_that_equals_the_built_folder(
    hub: HubServer, in_process_client: None, checkout: Path, tmp_path: Path
) -> None:
    made = push("org/first", token=TOKEN, private=True, hardware="t4-small", endpoint=hub.url)
    repo = hub.repos["spaces/org/first"]
    assert (made.repo_id, made.revision, made.url) == ("org/first", repo.refs["main"], f"{hub.url}/spaces/org/first")
    assert len(repo.commits) == 2  # the first one created the repository
    asked = repo.created_with
    assert (asked["type"], asked["sdk"], asked["hardware"]) == ("space", "gradio", "t4-small")
    assert asked.get("visibility") == "private" or asked.get("private") is True
    built = build(tmp_path / "built")
    assert {name: content for name, content in repo.tree.items() if name != ".gitattributes"} == {
        name: (built / name).read_bytes() for name in files_of(built)
    }
    assert push("org/first", token=TOKEN, endpoint=hub.url) == made
    assert len(repo.commits) == 2 and repo.hardware == "t4-small"  # nothing changed, nothing was asked for


def test_second_push_writes_changes_and_deletes_what_is_no_longer_built(
    hub: HubServer, in_process_client: None, checkout: Path
) -> None:
    push("org/second", token=TOKEN, endpoint=hub.url)
    (checkout / "space" / "stlm_page" / "style.css").unlink()
    (checkout / "space" / "app.py").write_text("print('new')\n")
    before = set(hub.repos["spaces/org/second"].tree)
    made = push("org/second", token=TOKEN, models=["test-nut"], hardware="zero-a10g", endpoint=hub.url)
    repo = hub.repos["spaces/org/second"]
    assert repo.refs["main"] == made.revision and len(repo.commits) == 3
    gone = before - set(repo.tree)
    assert "stlm_page/style.css" in gone and all(name.startswith("models/") for name in gone - {"stlm_page/style.css"})
    assert repo.tree["app.py"] == b"print('new')\n" and ".gitattributes" in repo.tree
    assert not [name for name in repo.tree if name.startswith("models/")]
    assert repo.hardware == "zero-a10g"


def test_a_space_of_something_else_is_not_overwritten(hub: HubServer, in_process_client: None, checkout: Path) -> None:
    commit = hub.put("spaces/org/other", {"app.py": b"theirs", "README.md": b""})
    with pytest.raises(HubError, match="org/other is a Space of something else; give another name"):
        push("org/other", token=TOKEN, endpoint=hub.url)
    assert hub.repos["spaces/org/other"].refs["main"] == commit
    hub.put("spaces/org/fresh", {"README.md": b"written by the Hub", ".gitattributes": b""})
    assert push("org/fresh", token=TOKEN, models=["test-nut"], endpoint=hub.url).repo_id == "org/fresh"


def test_pushing_that_the_hub_refuses_ends_in_a_sentence(
    hub: HubServer, in_process_client: None, checkout: Path
) -> None:
    for token in (None, "hf_wrong"):
        with pytest.raises(HubError, match=r"does not let you write to org/none; log in with `hf auth login`"):
            push("org/none", token=token, models=["test-nut"], endpoint=hub.url)
    with pytest.raises(HubError, match=r"refuses org/none on a100-large .*Payment required.* choose other hardware"):
        push("org/none", token=TOKEN, hardware="a100-large", models=["test-nut"], endpoint=hub.url)
    assert "spaces/org/none" not in hub.repos
    with socket.socket() as closed:  # bound but not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(HubError, match=r"org/none is not uploaded: http://127\.0\.0\.1:\d+ is out of reach"):
            push("org/none", token=TOKEN, models=["test-nut"], endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}")


# The command


def run_stlm(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["stlm", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli()
    return int(ended.value.code or 0)


def test_command_builds_and_pushes(
    hub: HubServer,
    in_process_client: None,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "space"
    assert run_stlm(monkeypatch, "space", "build", folder, "--model", "test-nut") == 0
    assert f"{folder} is written." in capsys.readouterr().out
    assert [*zoo.load_zoo(folder / "stlm_hub" / "model_folder" / "zoo.json")] == ["test-nut"]
    assert run_stlm(monkeypatch, "space", "build", folder) == 1
    assert "is not empty" in capsys.readouterr().err

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    options = ("--token", TOKEN, "--hardware", "t4-small", "--private")
    assert run_stlm(monkeypatch, "space", "push", "--repo", "org/command", *options) == 0
    repo = hub.repos["spaces/org/command"]
    assert f"{hub.url}/spaces/org/command is pushed at revision {repo.refs['main']}." in capsys.readouterr().out
    assert json.loads(repo.tree["stlm_hub/model_folder/zoo.json"])["models"].keys() == {"test-bottle", "test-nut"}
    assert repo.hardware == "t4-small"


# The Space on its own


@pytest.mark.slow
def test_built_space_runs_with_its_requirements_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = json.loads(zoo.ZOO_PATH.read_text(encoding="utf-8"))["models"]["sample-brick"] | {"revision": None}
    own = tmp_path / "zoo.json"
    own.write_text(json.dumps({"models": {"sample-brick": entry}}))
    monkeypatch.setattr(zoo, "ZOO_PATH", own)  # as if it were not published: the Space has it with it
    monkeypatch.delenv("STLM_ZOO_DIR", raising=False)
    space = build(tmp_path / "space")

    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", space / "requirements.txt"], check=True)

    dropped = ("PYTHON", "HF_", "STLM_", "GRADIO_", "XDG_", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    (tmp_path / "home").mkdir()
    environment |= {"HOME": str(tmp_path / "home"), "GRADIO_ANALYTICS_ENABLED": "False"}
    with serve([str(python), "app.py"], space, environment) as page:
        client = Client(page.url, verbose=False, download_files=False)
        for name, is_anomalous in (("crack.png", True), ("good_1.png", False)):
            photo = handle_file(space / "examples" / name)
            verdict = client.predict(photo=photo, model="sample-brick", threshold=None, api_name="/predict")[0]
            assert verdict["is_anomalous"] is is_anomalous, (name, verdict)
