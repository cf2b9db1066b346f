"""A hub on this machine: the parts of huggingface.co's interface with which huggingface_hub looks up and downloads a model."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.http_server import serving

TOKEN = "hf_test_token"


class Hub:
    """Repositories and their revisions; faults can be switched on between requests."""

    def __init__(self) -> None:
        self.revisions: dict[tuple[str, str], Path] = {}
        """(repository, revision) -> folder with its files."""
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.status: int | None = None
        """All requests are answered with this, if it is set."""
        self.cut: dict[str, int] = {}
        """File name -> how many of its bytes are sent before the connection is cut."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of all requests so far."""
        self.sent: list[tuple[str, str | None]] = []
        """Path and range of the files that were sent."""
        self.url = ""

    def commit(self, repository: str, revision: str) -> str | None:
        """Return the commit of a branch, a tag or a commit."""
        for (name, branch), folder in self.revisions.items():
            if name == repository and revision in (branch, commit_of(folder)):
                return commit_of(folder)
        return None

    def folder(self, repository: str, revision: str) -> Path:
        """Return where the files of a revision lie."""
        commit = self.commit(repository, revision)
        return next(folder for (name, _), folder in self.revisions.items() if name == repository and commit_of(folder) == commit)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def commit_of(folder: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for name, content in files_of(folder).items():
        digest.update(name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def describe(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for name, content in files_of(folder).items():
        row: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": sha1(content)}
        if name.endswith(".safetensors"):
            row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        rows.append(row)
    return rows


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status: int, code: str, message: str) -> None:
            self.answer(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.requests.append((self.command, self.path))
            if hub.status is not None:
                return self.answer(hub.status, b"out of order")
            path = self.path.split("?")[0]
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
                repository, what, revision = found[1], found[2], found[3] or "main"
                if repository not in {name for name, _ in hub.revisions} or (repository in hub.private and not known):
                    return self.refuse(404 if known else 401, "RepoNotFound", "Repository not found")
                if (commit := hub.commit(repository, revision)) is None:
                    return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                rows = describe(hub.folder(repository, revision))
                if what == "tree":
                    return self.answer(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})
                info = {"_id": "0", "id": repository, "sha": commit, "siblings": [{"rfilename": row["path"]} for row in rows]}
                return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if found is None or hub.commit(found[1], found[2]) is None:
                return self.refuse(404, "RepoNotFound", "Repository not found")
            if found[1] in hub.gated and not known:
                return self.refuse(403, "GatedRepo", f"Access to model {found[1]} is restricted")
            return self.send(found[1], found[2], found[3])

        def send(self, repository: str, revision: str, name: str) -> None:
            content = files_of(hub.folder(repository, revision)).get(name)
            if content is None:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            etag = hashlib.sha256(content).hexdigest() if name.endswith(".safetensors") else sha1(content)
            headers = {"X-Repo-Commit": str(hub.commit(repository, revision)), "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            status = 206 if asked else 200
            if asked:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if self.command == "GET":
                hub.sent.append((name, asked))
            if self.command == "GET" and name in hub.cut and start < hub.cut[name]:
                headers["Content-Length"] = str(len(content) - start)
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content[start : hub.cut[name]])
                self.wfile.flush()
                self.close_connection = True
                return None
            return self.answer(status, content[start:], headers)

    return Handler


@contextmanager
def served_hub() -> Iterator[Hub]:
    """Start a hub on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield hub
