"""A Hub in the test process. It speaks the part of the real HTTP API that publishes and loads models and Spaces.

Repositories are kept in memory; a Space has the name "spaces/org/name". Tests read `requests` and change or break what
is served with `put`, `remove`, `corrupt`, `after`, `refused` and `instead`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "hf_test"
LARGE = (".safetensors", ".png", ".bin")  # files that are stored as LFS objects
PAID = ("a100-large",)  # hardware that the server refuses: payment required


@dataclass
class Repo:
    """A repository.

    Args:
        commits: all files of each commit, content by path, by SHA of the commit.
        refs, tags: SHA of a commit by name of a branch or tag.
        corrupted: content by path that is served in place of the committed one.
        created_with: body of the request that created the repository.
        hardware: hardware that was requested for a Space.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    corrupted: dict[str, bytes] = field(default_factory=dict)
    created_with: dict[str, Any] = field(default_factory=dict)
    hardware: str | None = None

    def commit(self, tree: dict[str, bytes]) -> str:
        """Commits all files of a tree to main. Returns the commit's SHA."""
        listing = "".join(f"{path}{_oid(path, content)}" for path, content in sorted(tree.items()))
        sha = hashlib.sha1(f"{self.refs.get('main')}{listing}".encode()).hexdigest()
        self.commits[sha] = dict(tree)
        self.refs["main"] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """SHA of the commit that a branch, tag or SHA names; None where there is none."""
        sha = self.refs.get(revision) or self.tags.get(revision) or revision
        return sha if sha in self.commits else None

    @property
    def tree(self) -> dict[str, bytes]:
        """Files of the newest commit on main, content by path."""
        return self.commits[self.refs["main"]]


class HubServer:
    """Serves at `url` from `start` to `stop`. `requests` lists every request as "METHOD /path"."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.refused: dict[str, tuple[int, str]] = {}  # HTTP status and error code of every answer, by repository
        self.requests: list[str] = []
        self.instead: Callable[[Request], Awaitable[Response | None]] | None = None  # answers; None: as ever
        self._objects: dict[str, bytes] = {}
        self._hooks: dict[str, Callable[[], object]] = {}
        repo = "/api/{kind}/{ns}/{name}"
        routes = [
            Route("/api/repos/create", self._create, methods=["POST"]),
            Route("/api/validate-yaml", self._validate_yaml, methods=["POST"]),
            Route(repo, self._info),
            Route(repo + "/revision/{rev:path}", self._info),
            Route(repo + "/preupload/{rev}", self._preupload, methods=["POST"]),
            Route(repo + "/commit/{rev}", self._commit, methods=["POST"]),
            Route(repo + "/tag/{rev}", self._tag, methods=["POST"]),
            Route(repo + "/hardware", self._hardware, methods=["POST"]),
            Route("/{ns}/{name}.git/info/lfs/objects/batch", self._lfs_batch, methods=["POST"]),
            Route("/{kind}/{ns}/{name}.git/info/lfs/objects/batch", self._lfs_batch, methods=["POST"]),
            Route("/lfs/{oid}", self._lfs_put, methods=["PUT"]),
            Route("/{ns}/{name}/resolve/{rev}/{path:path}", self._file, methods=["GET", "HEAD"]),
        ]
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=self._answer)])
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def start(self) -> HubServer:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    # What tests call

    def put(self, repo_id: str, files: dict[str, bytes]) -> str:
        """Commits these files to main, changed or added. Creates the repository where it is missing."""
        repo = self.repos.setdefault(repo_id, Repo())
        return repo.commit({**(repo.tree if repo.refs else {}), **files})

    def remove(self, repo_id: str, path: str) -> str:
        """Commits the removal of a file to main."""
        repo = self.repos[repo_id]
        return repo.commit({name: content for name, content in repo.tree.items() if name != path})

    def corrupt(self, repo_id: str, path: str) -> None:
        """Serves the file with one bit flipped near its end. Size, ETag and metadata stay those of the real file."""
        content = bytearray(self.repos[repo_id].tree[path])
        content[-100] ^= 1
        self.repos[repo_id].corrupted[path] = bytes(content)

    def after(self, path: str, action: Callable[[], object]) -> None:
        """Runs an action once, after the next GET of a file with this path."""
        self._hooks[path] = action

    # What clients request

    async def _answer(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = await self.instead(request) if self.instead is not None else None
        return answer or await call_next(request)

    def _record(self, request: Request) -> None:
        self.requests.append(f"{request.method} {request.url.path}")

    def _may_write(self, request: Request) -> bool:
        self._record(request)
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def _found(self, request: Request) -> tuple[Repo, str] | Response:
        """The repository and commit of a request's path, or the error response."""
        repo_id = _repo_id(request)
        repo = self.repos.get(repo_id)
        if repo_id in self.refused:
            return _error(*self.refused[repo_id])
        if repo is None:
            return _error(404, "RepoNotFound")
        sha = repo.resolve(request.path_params.get("rev", "main"))
        return _error(404, "RevisionNotFound") if sha is None else (repo, sha)

    async def _create(self, request: Request) -> Response:
        if not self._may_write(request):
            return _error(401)
        body = await request.json()
        kind = "spaces/" if body.get("type") == "space" else ""
        repo_id = f"{kind}{body.get('organization') or 'tester'}/{body['name']}"
        answer = {"url": f"{self.url}/{repo_id}"}
        if repo_id in self.repos:
            return JSONResponse({**answer, "error": "You already created this repo"}, 409)
        if body.get("hardware") in PAID:
            return JSONResponse({"error": "Payment required"}, 402)
        self.put(repo_id, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self.repos[repo_id].created_with = body
        self.repos[repo_id].hardware = body.get("hardware")
        return JSONResponse(answer)

    async def _validate_yaml(self, request: Request) -> Response:
        self._record(request)
        front = yaml.safe_load((await request.json())["content"].split("---")[1])
        errors = [] if isinstance(front.get("tags", []), list) else [{"message": '"tags" must be an array'}]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    async def _info(self, request: Request) -> Response:
        self._record(request)
        found = self._found(request)
        if isinstance(found, Response):
            return found
        repo, sha = found
        siblings: list[dict[str, Any]] = []
        for path, content in sorted(repo.commits[sha].items()):
            file = {"rfilename": path, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            if path.endswith(LARGE):
                file["lfs"] = {"sha256": _oid(path, content), "size": len(content), "pointerSize": 134}
            siblings.append(file)
        repo_id = f"{request.path_params['ns']}/{request.path_params['name']}"
        answer = {"id": repo_id, "modelId": repo_id, "sha": sha, "private": False, "siblings": siblings}
        if request.path_params["kind"] == "spaces":
            answer["runtime"] = {"stage": "BUILDING", "hardware": {"current": None, "requested": repo.hardware}}
        return JSONResponse(answer)

    async def _preupload(self, request: Request) -> Response:
        if not self._may_write(request):
            return _error(401)
        found = self._found(request)
        if isinstance(found, Response):
            return found
        repo, sha = found
        files = []
        for file in (await request.json())["files"]:
            path, tree = file["path"], repo.commits[sha]
            mode = "lfs" if path.endswith(LARGE) else "regular"
            oid = _oid(path, tree[path]) if path in tree else None
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": files})

    async def _lfs_batch(self, request: Request) -> Response:
        if not self._may_write(request):
            return _error(401)
        objects = []
        for item in (await request.json())["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self._objects:
                entry["actions"] = {"upload": {"href": f"{self.url}/lfs/{item['oid']}", "header": {}}}
            objects.append(entry)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _lfs_put(self, request: Request) -> Response:
        self._record(request)
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != request.path_params["oid"]:
            return _error(400)
        self._objects[request.path_params["oid"]] = content
        return Response()

    async def _commit(self, request: Request) -> Response:
        if not self._may_write(request):
            return _error(401)
        found = self._found(request)
        if isinstance(found, Response):
            return found
        repo, sha = found
        tree = dict(repo.commits[sha])
        for line in (await request.body()).splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                tree[value["path"]] = self._objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del tree[value["path"]]
        commit = repo.commit(tree)
        url = f"{self.url}/{_repo_id(request)}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": url})

    async def _tag(self, request: Request) -> Response:
        if not self._may_write(request):
            return _error(401)
        found = self._found(request)
        if isinstance(found, Response):
            return found
        repo, sha = found
        name = (await request.json())["tag"]
        if name in repo.tags:
            return _error(409)
        repo.tags[name] = sha
        return Response()

    async def _hardware(self, request: Request) -> Response:
        if not self._may_write(request):
            return _error(401)
        found = self._found(request)
        if isinstance(found, Response):
            return found
        found[0].hardware = (await request.json())["flavor"]
        return JSONResponse({"stage": "BUILDING", "hardware": {"current": None, "requested": found[0].hardware}})

    async def _file(self, request: Request) -> Response:
        self._record(request)
        found = self._found(request)
        if isinstance(found, Response):
            return found
        repo, sha = found
        path = request.path_params["path"]
        headers = {"X-Repo-Commit": sha}
        if path not in repo.commits[sha]:
            return _error(404, "EntryNotFound", headers)
        content = repo.commits[sha][path]
        headers |= {"ETag": f'"{_oid(path, content)}"', "Content-Length": str(len(content))}
        if request.method == "HEAD":
            return Response(headers=headers)
        response = Response(repo.corrupted.get(path, content), headers=headers)
        if path in self._hooks:
            self._hooks.pop(path)()
        return response


def _repo_id(request: Request) -> str:
    """Key of the request's repository in `HubServer.repos`."""
    kind = "spaces/" if request.path_params.get("kind") == "spaces" else ""
    return f"{kind}{request.path_params['ns']}/{request.path_params['name']}"


@lru_cache(maxsize=64)
def _oid(path: str, content: bytes) -> str:
    """The Hub's identifier of a file: SHA-256 of a large file, git's blob hash of a small one."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _error(status: int, code: str = "", headers: dict[str, str] | None = None) -> Response:
    return Response(status_code=status, headers={**(headers or {}), **({"X-Error-Code": code} if code else {})})
