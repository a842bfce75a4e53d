"""A stand-in for the Hugging Face Hub on the loopback: the part of its HTTP interface that is used here.

`serve()` is a hub for tests in this process; its `env` is for other processes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from deepalign_cli.checkpoint import hub

TOKEN = "hf_good"
LFS = (".safetensors", ".bin", ".model", ".png")


@dataclass
class Repo:
    """Commits by their hash, and what branches stand for; `gate` is the error code for those kept out."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gate: str = "RepoNotFound"

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A new state of a branch: `files` over what was there."""
        now = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        sha = hashlib.sha1(repr((branch, len(self.commits), sorted(now))).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = now, sha
        return sha


@dataclass
class StandIn:
    """The hub: its repositories, what was asked of it, and how it is broken.

    `cut` is by how many bytes the next answers fall short; `short` says so in their headers; `status` is what
    everything is answered with; `broken_uploads` refuses the contents of large files alone.
    """

    folder: Path
    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    short: bool = False
    status: int | None = None
    read_only: bool = False
    broken_uploads: bool = False

    def add(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit files to a repository, which is made where it is missing."""
        return self.repos.setdefault(name, Repo()).commit(files, branch)

    def files(self, name: str) -> dict[str, bytes]:
        """What is on the main branch."""
        repo = self.repos[name]
        return repo.commits[repo.branches["main"]]

    def downloads(self) -> list[str]:
        """The files that were sent, in order."""
        lines = (line.split(" ") for line in self.asked)
        return ["/".join(words[5:]) for words in lines if words[0] == "GET" and "resolve" in words]

    @property
    def env(self) -> dict[str, str]:
        """The environment in which another process talks to it."""
        return {
            "HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.folder), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """One request; `server.hub` is the stand-in."""

    protocol_version = "HTTP/1.1"
    server: Any

    @property
    def hub(self) -> StandIn:
        return self.server.hub  # type: ignore[no-any-return]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 (the names that http.server calls)

    def answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append(f"{self.command} {' '.join(parts)}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self.chunks()
        try:
            if self.hub.status is not None:
                raise Refused(self.hub.status)
            self.route(parts)
        except Refused as refused:
            told = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self.send(json.dumps({"error": refused.message}).encode(), refused.status, told)

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def route(self, parts: list[str]) -> None:
        match parts:
            case ["api", "models", org, name]:
                self.info(f"{org}/{name}", "main")
            case ["api", "models", org, name, "revision", revision]:
                self.info(f"{org}/{name}", revision)
            case ["api", "repos", "create"]:
                self.create()
            case ["api", "validate-yaml"]:
                self.validate()
            case ["api", "models", org, name, "preupload", _]:
                self.preupload(f"{org}/{name}")
            case ["api", "models", org, name, "commit", branch]:
                self.commit(f"{org}/{name}", branch)
            case [org, name, "info", "lfs", "objects", "batch"]:
                self.batch(f"{org}/{name.removesuffix('.git')}")
            case ["lfs", oid]:
                if self.hub.broken_uploads:
                    raise Refused(403, "", "the link has run out")
                self.hub.objects[oid] = self.body
                self.send(b"")
            case [org, name, "resolve", revision, *file]:
                self.resolve(f"{org}/{name}", revision, "/".join(file))
            case _:
                raise Refused(404)

    # --- reading ----------------------------------------------------------------------------------

    def repo(self, name: str) -> Repo:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", TOKEN):
            raise Refused(401, "", "Invalid credentials in Authorization header")
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not token):
            gate = repo.gate if repo else "RepoNotFound"
            raise Refused(403 if gate == "GatedRepo" else 401, gate, "no")
        return repo

    def state(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]]:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refused(404, "RevisionNotFound", "no such revision")
        return sha, repo.commits[sha]

    def info(self, name: str, revision: str) -> None:
        sha, files = self.state(self.repo(name), revision)
        siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
        self.send_json({"id": name, "sha": sha, "siblings": siblings, "private": False, "tags": []})

    def resolve(self, name: str, revision: str, file: str) -> None:
        sha, files = self.state(self.repo(name), revision)
        data = files.get(file)
        if data is None:
            raise Refused(404, "EntryNotFound", "no such file")
        told = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            told["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(data[start:], 206 if start else 200, told)

    # --- writing ----------------------------------------------------------------------------------

    def signed_in(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "", "Invalid credentials in Authorization header")
        if self.hub.read_only:
            raise Refused(403, "", "you have no right to write here")

    def create(self) -> None:
        self.signed_in()
        told = json.loads(self.body)
        name = f"{told['organization']}/{told['name']}"
        if name in self.hub.repos:
            self.send_json(
                {"error": "You already created this repo", "url": f"{self.hub.endpoint}/{name}"}, 409
            )
            return
        private = told.get("private") or told.get("visibility") == "private"
        repo = self.hub.repos[name] = Repo(private=bool(private))
        repo.commit({".gitattributes": b""})
        self.send_json({"url": f"{self.hub.endpoint}/{name}", "id": name})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        try:
            front = yaml.safe_load(text.split("---\n")[1])
            bad = [] if isinstance(front, dict) else ["no mapping"]
        except (IndexError, yaml.YAMLError) as error:
            bad = [str(error)]
        told = {"errors": [{"message": e} for e in bad], "warnings": [{"message": "a warning"}]}
        self.send_json(told, 400 if bad else 200)

    def preupload(self, name: str) -> None:
        self.signed_in()
        self.repo(name)
        paths = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(LFS) else "regular" for path in paths}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        self.send_json({"files": files})

    def batch(self, name: str) -> None:
        self.signed_in()
        objects = [
            {
                **o,
                "authenticated": True,
                "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{o['oid']}"}},
            }
            for o in json.loads(self.body)["objects"]
        ]
        self.send_json({"transfer": "basic", "objects": objects})

    def commit(self, name: str, branch: str) -> None:
        self.signed_in()
        files: dict[str, bytes] = {}
        for item in map(json.loads, self.body.splitlines()):
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        sha = self.repo(name).commit(files, branch)
        self.send_json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    # --- answers ----------------------------------------------------------------------------------

    def send_json(self, value: object, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        sent = data
        if self.command == "GET" and self.hub.cut and "ETag" in (headers or {}):
            sent = data[: -self.hub.cut.pop(0)]
        self.send_header("Content-Length", str(len(sent if self.hub.short else data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
        if sent is not data and not self.hub.short:
            self.close_connection = True


@contextmanager
def serve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub on the loopback that huggingface_hub talks to in this process, with its cache in `folder`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in = StandIn(folder, f"http://127.0.0.1:{server.server_port}")
    server.hub = stand_in  # type: ignore[attr-defined]
    server.daemon_threads = True
    redirect(folder, stand_in.endpoint, monkeypatch)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def redirect(folder: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub talk to `endpoint` and nobody else, without waiting between its attempts."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    for module in (constants, file_download):  # older versions have it in both
        url = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", url, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # the module is shared: all of `time`
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    forget()


def forget() -> None:
    """What a new process does not know."""
    hub.fetch.cache_clear()
    hub._listing.cache_clear()
    hub.set_offline(False)
