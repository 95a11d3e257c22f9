"""The Space's entry point: `python app.py` serves the page."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import spaces  # noqa: F401  # before anything touches CUDA, or ZeroGPU refuses to start

HERE = Path(__file__).resolve().parent
if (HERE / "models").is_dir():  # a Space that carries models which are not on the Hub
    os.environ.setdefault("STLM_ZOO_DIR", str(HERE / "models"))

from starlette.middleware import Middleware  # noqa: E402

from stlm_page import faster  # noqa: E402
from stlm_page.build import build_page  # noqa: E402
from stlm_page.examples import examples  # noqa: E402
from stlm_page.guard import Guard, hosts_of  # noqa: E402
from stlm_page.heaps import share_heaps  # noqa: E402
from stlm_page.judge import MODELS  # noqa: E402
from stlm_page.launch import why_not_served  # noqa: E402
from stlm_page.models import offered  # noqa: E402
from stlm_page.theme import HEAD, STYLE, theme  # noqa: E402

MAX_QUEUE = int(os.environ.get("STLM_SPACE_MAX_QUEUE", 64))  # visitors who wait; more are told that it is full
MAX_FILE_SIZE = "200mb"
ADDRESS, PORT = "127.0.0.1", 7860


def main() -> None:
    """Serves the page until it is stopped."""
    share_heaps()
    MODELS.get(offered()[0].alias)  # the first visitor does not wait for it
    if faster.wanted():
        faster.export_beside(MODELS, [entry.alias for entry in offered()])
    page = build_page(examples(HERE / "examples"))
    page.queue(max_size=MAX_QUEUE, default_concurrency_limit=2, api_open=False)  # no way past the queue
    port = int(os.environ.get("GRADIO_SERVER_PORT", PORT))
    address = os.environ.get("GRADIO_SERVER_NAME", ADDRESS)
    try:
        page.launch(
            server_name=address,
            server_port=port,
            theme=theme(),
            css_paths=STYLE,
            head=HEAD,
            max_file_size=MAX_FILE_SIZE,
            mcp_server=True,
            footer_links=["api", "settings"],
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,  # who asked what, and how long it took
            app_kwargs={"middleware": [Middleware(Guard, hosts=hosts_of(address))]},
        )
    except OSError as error:
        sys.exit(f"Error: {why_not_served(error, address, port)}")


if __name__ == "__main__":
    main()
