"""The page from programs: gradio_client, plain HTTP, an MCP client, hostile requests."""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from hub_server import HubServer
from PIL import Image

from benchmarks.page_process import Page
from stlm_hub.calibration.threshold import expected_false_alarm_rate
from stlm_hub.model_folder import zoo
from stlm_hub.model_folder.names import DECIDING
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def client(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(page.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="module")
def model() -> STLM:
    return STLM.from_pretrained("sample-brick")


def test_predict_says_what_the_library_says(client: Client, model: STLM, photographs: Path) -> None:
    for name in ("crack.png", "good_1.png"):
        facts, panel, mask = client.predict(handle_file(photographs / name), "sample-brick", None, api_name="/predict")
        expected = model.predict(photographs / name)
        assert facts["is_anomalous"] == expected.is_anomalous == (name == "crack.png")
        assert facts["score"] == pytest.approx(expected.score, abs=1e-5)
        rate = expected_false_alarm_rate(model.judging.normal_scores, expected.threshold)
        assert facts["threshold"] == expected.threshold and facts["expected_false_alarm_rate"] == pytest.approx(rate)
        assert (facts["photograph"], facts["model"]) == (Path(name).stem, "sample-brick")
        assert np.mean((np.array(Image.open(mask)) > 0) != expected.mask) < 0.001
        assert Image.open(panel).width > 600


def test_predict_takes_a_threshold_and_has_defaults(client: Client, photographs: Path) -> None:
    facts = client.predict(photo=handle_file(photographs / "crack.png"), api_name="/predict")[0]
    assert facts["is_anomalous"] and facts["model"] == "sample-brick"
    facts = client.predict(photo=handle_file(photographs / "crack.png"), threshold=0.99, api_name="/predict")[0]
    assert not facts["is_anomalous"] and facts["threshold"] == 0.99


@pytest.mark.parametrize(
    ("model_name", "threshold", "sentence"),
    [
        ("mvtec-botle", None, "Did you mean mvtec-bottle"),
        ("../../etc", None, "not a model on the Hub"),
        ("/etc/passwd", None, "not a model on the Hub"),
        ("someone/nothing-here", None, "There is no model someone/nothing-here"),
        ("sample-brick", 1.5, "from 0 to 1"),
    ],
)
def test_predict_refuses_in_a_sentence(
    client: Client, photographs: Path, model_name: str, threshold: float | None, sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(photographs / "crack.png"), model_name, threshold, api_name="/predict")


def test_predict_names_the_file_that_is_no_photograph(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "notes.png"
    broken.write_bytes(b"these are notes")
    with pytest.raises(AppError, match=r"notes.png is not a PNG"):
        client.predict(handle_file(broken), api_name="/predict")


def test_models_lists_the_zoo(client: Client) -> None:
    listed = client.predict(api_name="/models")
    assert {entry["alias"] for entry in listed} == set(zoo.load_zoo())
    assert all(entry["license"] and 0 < entry["metrics"]["i_auroc"] <= 1 for entry in listed)
    splits = {entry["alias"]: entry["official_split"] for entry in listed}
    assert splits["mvtec-bottle"] is True and splits["mvtec-grid"] is False and splits["sample-brick"] is None


def test_predict_takes_a_model_of_the_hub(client: Client, hub: HubServer, photographs: Path, model: STLM) -> None:
    folder = zoo.checkout_folder("sample-brick")
    assert folder is not None
    names = (*DECIDING, "results.json")
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    revision = hub.put("someone/brick", files)
    for name in ("someone/brick", f"someone/brick@{revision}"):
        facts = client.predict(handle_file(photographs / "crack.png"), name, api_name="/predict")[0]
        assert facts["score"] == pytest.approx(model.predict(photographs / "crack.png").score, abs=1e-5)
        assert facts["weights_revision"] == revision and facts["model"] == name


def test_only_these_endpoints_are_public(client: Client) -> None:
    info = client.view_api(return_format="dict", print_info=False)
    assert set(info["named_endpoints"]) == {"/predict", "/models"}
    parameters = info["named_endpoints"]["/predict"]["parameters"]
    assert [p["parameter_name"] for p in parameters] == ["photo", "model", "threshold"]


def test_many_at_once_all_get_their_own_answer(page: Page, model: STLM, photographs: Path) -> None:
    names = ["crack.png", "good_1.png", "hole.png", "good_2.png"] * 2
    expected = {name: model.predict(photographs / name).score for name in set(names)}

    def ask(name: str) -> float:
        own = Client(page.url, verbose=False, download_files=False)
        return own.predict(handle_file(photographs / name), api_name="/predict")[0]["score"]

    with ThreadPoolExecutor(len(names)) as users:
        for name, score in zip(names, users.map(ask, names), strict=True):
            assert score == pytest.approx(expected[name], abs=1e-5)


def test_an_mcp_client_finds_and_calls_the_tools(page: Page, photographs: Path) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    data = base64.b64encode((photographs / "crack.png").read_bytes()).decode()
    photo = f"data:image/png;base64,{data}"

    async def talk() -> tuple[dict[str, str], list[dict]]:
        async with (
            streamablehttp_client(f"{page.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool.description or "" for tool in (await session.list_tools()).tools}
            name = next(name for name in tools if name.endswith("predict"))
            found = []
            for threshold in ({}, {"threshold": None}, {"threshold": 0.99}):
                result = await session.call_tool(name, {"photo": photo, "model": "sample-brick", **threshold})
                assert not result.isError, result.content
                found.append(ast.literal_eval(result.content[0].text)[0])
            for threshold in ({"threshold": "0.5"}, {"threshold": 2}):
                result = await session.call_tool(name, {"photo": photo, **threshold})
                assert result.isError and result.content[0].text
            return tools, found

    tools, (calibrated, said, high) = asyncio.run(talk())
    assert {name.rsplit("_", 1)[-1] for name in tools if "upload" not in name} == {"predict", "models"}
    assert "is anything on it not normal" in next(text for name, text in tools.items() if name.endswith("predict"))
    assert calibrated["is_anomalous"] and said["threshold"] == calibrated["threshold"]
    assert high["threshold"] == 0.99 and not high["is_anomalous"]


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=/etc/passwd", "/gradio_api/file=app.py", "/gradio_api/file=../../etc/passwd"]
)
def test_files_of_the_machine_are_not_served(page: Page, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(page.url + path, timeout=10)
    assert refused.value.code in (403, 404)


def test_a_path_of_the_machine_is_not_taken_for_an_upload(page: Page) -> None:
    data = {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "sample-brick", None]}
    request = urllib.request.Request(
        f"{page.url}/gradio_api/call/predict", json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        event = json.loads(answer.read())["event_id"]
    with urllib.request.urlopen(f"{page.url}/gradio_api/call/predict/{event}", timeout=60) as answer:
        said = answer.read().decode()
    assert "event: error" in said and "root:" not in said
