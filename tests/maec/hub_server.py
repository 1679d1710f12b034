"""A stand-in for a model hub on loopback: the endpoints that `snapshot_download` asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked for."""

    repos: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Hub id → commit or branch → folder with the files; a branch is served as its commit."""
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    withheld: set[str] = field(default_factory=set)
    """Names of files that are listed, and not given out."""
    url: str = ""

    def add(self, repo: str, folder: Path, *branches: str) -> str:
        """Serve `folder` as `repo`, on its branches; the commit it is given."""
        commit = hashlib.sha1(str(folder).encode()).hexdigest()
        names = (commit, *(branches or ("main",)))
        self.repos.setdefault(repo, {}).update(dict.fromkeys(names, folder))
        return commit

    def commit(self, repo: str, revision: str) -> str | None:
        folder = self.repos.get(repo, {}).get(revision)
        return hashlib.sha1(str(folder).encode()).hexdigest() if folder else None


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port of loopback; its address is `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
            self.send_response(status)
            for key, value in {"content-length": len(body), **headers}.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, repo: str, revision: str) -> bool:
            if repo not in hub.repos:
                self.reply(404, x_error_code="RepoNotFound")
            elif repo in hub.gated:
                self.reply(403, x_error_code="GatedRepo")
            elif hub.commit(repo, revision) is None:
                self.reply(404, x_error_code="RevisionNotFound")
            else:
                return False
            return True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self.api("/".join(parts[2:4]), parts[4], "/".join(parts[5:]))
            elif parts[2:3] != ["resolve"]:
                self.reply(404)
            else:  # org/name/resolve/revision/file
                self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def api(self, repo: str, what: str, revision: str) -> None:
            if self.refuse(repo, revision):
                return
            commit = hub.commit(repo, revision)
            answer: object = {"id": repo, "modelId": repo, "sha": commit}
            if what == "tree":
                folder = hub.repos[repo][revision]
                answer = [
                    {
                        "type": "file",
                        "path": str(file.relative_to(folder)),
                        "size": file.stat().st_size,
                        "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
                    }
                    for file in sorted(folder.rglob("*"))
                    if file.is_file()
                ]
            self.reply(200, json.dumps(answer).encode(), content_type="application/json")

        def file(self, repo: str, revision: str, name: str) -> None:
            if self.refuse(repo, revision):
                return
            file = hub.repos[repo][revision] / name
            if not file.is_file():
                self.reply(404, x_error_code="EntryNotFound")
                return
            body = file.read_bytes()
            etag = f'"{hashlib.sha1(body).hexdigest()}"'
            if name in hub.withheld and self.command == "GET":
                self.reply(403)
            else:
                self.reply(200, body, etag=etag, x_repo_commit=hub.commit(repo, revision))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
