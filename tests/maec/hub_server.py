"""A stand-in for a model hub on loopback.

It has the endpoints that `snapshot_download` and the reading of data sets ask for, and those that
`create_repo`, `create_branch` and `upload_folder` write to when HF_HUB_DISABLE_XET is set: small
files come inside the commit, large ones (here: safetensors) by git-lfs before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

import yaml

TOKEN = "hf_loopback"
"""The one token that may write."""


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked for."""

    repos: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Hub id → commit or branch → folder with the files; a branch is served as its commit.

    The id of a data set begins with `datasets/`.
    """
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    withheld: set[str] = field(default_factory=set)
    """Names of files that are listed, and not given out."""
    url: str = ""
    store: Path | None = None
    """Where commits are kept; without it nothing can be written."""
    private: set[str] = field(default_factory=set)
    writable: set[str] = field(default_factory=lambda: {"org"})
    """The namespaces that the token may write to."""
    messages: list[str] = field(default_factory=list)
    """What the commits said."""
    broken: set[str] = field(default_factory=set)
    """Parts of a path (`lfs`, `commit`) that answer with a fault of the server."""
    lfs: dict[str, bytes] = field(default_factory=dict)
    """What has been uploaded by git-lfs, by its SHA-256."""

    def add(self, repo: str, folder: Path, *branches: str) -> str:
        """Serve `folder` as `repo`, on its branches; the commit it is given."""
        commit = hashlib.sha1(str(folder).encode()).hexdigest()
        names = (commit, *(branches or ("main",)))
        self.repos.setdefault(repo, {}).update(dict.fromkeys(names, folder))
        return commit

    def new_commit(self, repo: str, branch: str) -> Path:
        """A copy of what is on the branch, to be changed, that the branch is from now on."""
        assert self.store is not None
        folder = self.store / repo / f"{len(self.repos.setdefault(repo, {}))}-{branch}"
        if branch in self.repos[repo]:
            shutil.copytree(self.repos[repo][branch], folder)
        else:
            folder.mkdir(parents=True)
            (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self.add(repo, folder, branch)
        return folder

    def commit(self, repo: str, revision: str) -> str | None:
        folder = self.repos.get(repo, {}).get(revision)
        return hashlib.sha1(str(folder).encode()).hexdigest() if folder else None


def described(folder: Path, path: Path) -> dict[str, object]:
    """What a hub says of a file or folder in a repository."""
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()}
    return {
        "type": "file",
        "path": name,
        "size": path.stat().st_size,
        "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
    }


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

        def say(self, answer: object, status: int = 200) -> None:
            self.reply(status, json.dumps(answer).encode(), content_type="application/json")

        @property
        def known(self) -> bool:
            return self.headers["authorization"] == f"Bearer {TOKEN}"

        def refuse(self, repo: str, revision: str) -> bool:
            if repo not in hub.repos or (repo in hub.private and not self.known):
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
            kind = "datasets/" if "datasets" in parts[:2] else ""
            if parts[:2] in (["api", "models"], ["api", "datasets"]):
                what, revision = (*parts[4:5], "/".join(parts[5:])) if parts[4:] else ("", "main")
                self.api(kind + "/".join(parts[2:4]), what, revision)
                return
            parts = parts[1:] if kind else parts
            if parts[2:3] != ["resolve"]:
                self.reply(404)
            else:  # org/name/resolve/revision/file
                self.file(kind + "/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def api(self, repo: str, what: str, revision: str) -> None:
            # org/name/tree/revision/folder: both may have slashes in them
            known = [
                name for name in hub.repos.get(repo, {}) if f"{revision}/".startswith(f"{name}/")
            ]
            revision, inside = (
                (max(known), revision[len(max(known)) + 1 :]) if known else (revision, "")
            )
            if self.refuse(repo, revision):
                return
            commit = hub.commit(repo, revision)
            folder = hub.repos[repo][revision]
            found = [described(folder, path) for path in sorted(folder.rglob("*"))]
            files = [entry["path"] for entry in found if entry["type"] == "file"]
            answer: object = {
                "id": repo.removeprefix("datasets/"),
                "modelId": repo,
                "sha": commit,
                "private": repo in hub.private,
                "siblings": [{"rfilename": name} for name in files],
            }
            if what == "tree":
                deep = "recursive=true" in self.path.lower()
                answer = [
                    entry
                    for entry in found
                    if deep or entry["path"].rpartition("/")[0] == inside
                    if f"{entry['path']}/".startswith(f"{inside}/" if inside else "")
                ]
            elif what == "paths-info":
                wanted = parse_qs(self.body().decode())["paths"]
                answer = [entry for entry in found if entry["path"] in wanted]
            self.say(answer)

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
                return
            commit, status = hub.commit(repo, revision), 200
            if asked := self.headers["range"]:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                body, status = body[int(first) : int(last) + 1 if last else None], 206
            self.reply(status, body, etag=etag, x_repo_commit=commit)

        def body(self) -> bytes:
            if self.headers["transfer-encoding"] != "chunked":
                return self.rfile.read(int(self.headers["content-length"] or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_PUT(self) -> None:  # the storage that a git-lfs batch names; asks for no token
            hub.asked.append(f"PUT {self.path}")
            body, oid = self.body(), self.path.rpartition("/")[2]
            if "lfs" in hub.broken or hashlib.sha256(body).hexdigest() != oid:
                self.reply(501)
            else:
                hub.lfs[oid] = body
                self.reply(200)

        def do_POST(self) -> None:
            hub.asked.append(f"POST {self.path}")
            if "/paths-info/" in self.path:
                parts = unquote(urlparse(self.path).path).strip("/").split("/")
                kind = "datasets/" if parts[1] == "datasets" else ""
                self.api(kind + "/".join(parts[2:4]), parts[4], "/".join(parts[5:]))
                return
            body = self.body()
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            if parts == ["api", "validate-yaml"]:
                self.validate(json.loads(body)["content"])
            elif not self.known:
                self.reply(401, x_error_message="Invalid credentials in Authorization header")
            elif parts == ["api", "repos", "create"]:
                self.create(json.loads(body))
            elif parts[2:] == ["info", "lfs", "objects", "batch"]:
                self.batch(json.loads(body))
            elif parts[0] == "verify":
                self.reply(200 if json.loads(body)["oid"] in hub.lfs else 404)
            else:
                repo, what, branch = "/".join(parts[2:4]), parts[4], "/".join(parts[5:])
                self.write(repo, what, branch, body)

        def validate(self, card: str) -> None:
            """What the hub does before a card is uploaded: its front matter has to be YAML."""
            try:
                front = yaml.safe_load(card.split("---\n")[1])
                assert isinstance(front, dict)
            except Exception as error:
                self.say({"errors": [{"message": str(error)}], "warnings": []}, 400)
            else:
                self.say({"errors": [], "warnings": []})

        def create(self, asked: dict[str, str]) -> None:
            repo = f"{asked['organization']}/{asked['name']}"
            url = {"url": f"{hub.url}/{repo}"}
            if asked["organization"] not in hub.writable:
                self.reply(403)
            elif repo in hub.repos:
                self.say(url, 409)
            else:
                if asked.get("visibility") == "private":
                    hub.private.add(repo)
                hub.new_commit(repo, "main")
                self.say(url)

        def batch(self, asked: dict[str, list[dict[str, str]]]) -> None:
            """Where large files go, but those that are there."""
            for entry in asked["objects"]:
                if entry["oid"] not in hub.lfs:
                    entry["actions"] = {
                        "upload": {"href": f"{hub.url}/lfs/{entry['oid']}"},
                        "verify": {"href": f"{hub.url}/verify/{entry['oid']}"},
                    }
            self.say({"transfer": "basic", "objects": asked["objects"]})

        def write(self, repo: str, what: str, branch: str, body: bytes) -> None:
            if repo.partition("/")[0] not in hub.writable:
                self.reply(403)
            elif what in hub.broken:
                self.reply(501)
            elif what == "branch":
                exists = branch in hub.repos[repo]
                if not exists:
                    hub.repos[repo][branch] = hub.repos[repo]["main"]
                self.reply(409 if exists else 201)
            elif self.refuse(repo, branch):
                pass
            elif what == "preupload":
                files = [{"path": file["path"]} for file in json.loads(body)["files"]]
                for file in files:
                    large = file["path"].endswith(".safetensors")
                    file |= {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                self.say({"files": files})
            elif what == "commit":
                self.commit(repo, branch, [json.loads(line) for line in body.splitlines()])
            else:
                self.reply(404)

        def commit(self, repo: str, branch: str, lines: list[dict[str, dict[str, str]]]) -> None:
            folder = hub.new_commit(repo, branch)
            for line in lines:
                value = line["value"]
                match line["key"]:
                    case "header":
                        hub.messages.append(value["summary"])
                    case "file":
                        (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
                    case "lfsFile":
                        (folder / value["path"]).write_bytes(hub.lfs[value["oid"]])
                    case "deletedFile":
                        (folder / value["path"]).unlink()
            oid = hub.commit(repo, branch)
            self.say({"commitUrl": f"{hub.url}/{repo}/commit/{oid}", "commitOid": oid})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
