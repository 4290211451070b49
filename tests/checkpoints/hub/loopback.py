"""A small Hugging Face hub on 127.0.0.1: as much of its HTTP interface as the real client uses, and its failures.

Files lie in commits; large ones (here: everything that the client sends as such) go through Git LFS's batch interface.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 10_000
"""Bytes from which a file is asked for through LFS."""


@dataclass
class Repo:
    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    """Ids and whole trees, the oldest first."""
    claimed: dict[str, str] = field(default_factory=dict)
    """The sha256 that the hub claims of a file, where it lies."""

    def commit(self, files: dict[str, bytes]) -> str:
        tree = (self.commits[-1][1] if self.commits else {}) | files
        content = repr(sorted((name, hashlib.sha256(body).hexdigest()) for name, body in tree.items()))
        oid = hashlib.sha256(f"{len(self.commits)}{content}".encode()).hexdigest()[:40]
        self.commits.append((oid, tree))
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else ("0" * 40, {})
        return next(((oid, tree) for oid, tree in self.commits if oid == revision), None)


class Hub:
    """The server; ``misbehave`` may answer a request in its own way: it returns True if it did."""

    def __init__(self, token: str | None = None) -> None:
        self.repos: dict[str, Repo] = {}
        self.token = token
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorizations: set[str] = set()
        self.misbehave: Callable[[BaseHTTPRequestHandler], bool] = lambda request: False
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.other = f"http://localhost:{self.server.server_port}"
        """The same server under another name, as the hub keeps large files on another host."""
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server looks for

    def _serve(self) -> None:
        self.body = self._read()
        self.path_only = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, self.path_only))
        if authorization := self.headers.get("Authorization"):
            self.hub.authorizations.add(authorization)
        if self.hub.misbehave(self):
            return
        routes = {
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda: self.json({"errors": [], "warnings": []}),
            r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?": self._info,
            r"/api/models/([^/]+/[^/]+)/preupload/(.+)": self._preupload,
            r"/api/models/([^/]+/[^/]+)/commit/(.+)": self._commit,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
            r"/lfs/([0-9a-f]{64})": self._object,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self._resolve,
            r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)": self._content,
        }
        for pattern, serve in reversed(routes.items()):
            if found := re.fullmatch(pattern, self.path_only):
                serve(*found.groups())
                return
        self.json({"error": "no such route"}, 404)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def json(self, content: object, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(content).encode(), status, **({"Content-Type": "application/json"} | headers))

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _allowed(self, repo: Repo | None) -> bool:
        """Tell whether the request may see a repository; the real hub says 401 for a missing one, too."""
        authorized = self.hub.token and self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repo is None or (repo.private and not authorized):
            self.json({"error": "Repository not found"}, 401, X_Error_Code="RepoNotFound")
            return False
        return True

    def _authorized(self) -> bool:
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.json({"error": "Invalid username or password."}, 401)
            return False
        return True

    def _create(self) -> None:
        if not self._authorized():
            return
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        known = name in self.hub.repos
        private = bool(asked.get("private") or asked.get("visibility") == "private")
        self.hub.repos.setdefault(name, Repo(private=private))
        self.json({"url": f"{self.hub.url}/{name}"}, 409 if known else 200)

    def _info(self, name: str, revision: str | None) -> None:
        repo = self.hub.repos.get(name)
        if not self._allowed(repo):
            return
        found = repo.at(revision or "main")
        if found is None:
            self.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return
        oid, tree = found
        siblings = []
        for file, body in tree.items():
            entry = {"rfilename": file, "size": len(body), "blobId": _blob(body)}
            if len(body) >= LARGE or file in repo.claimed:
                sha256 = repo.claimed.get(file, hashlib.sha256(body).hexdigest())
                entry["lfs"] = {"size": len(body), "sha256": sha256, "pointerSize": 130}
            siblings.append(entry)
        self.json({"id": name, "modelId": name, "sha": oid, "private": repo.private, "siblings": siblings, "tags": []})

    def _preupload(self, name: str, revision: str) -> None:
        if not self._authorized() or not self._allowed(self.hub.repos.get(name)):
            return
        asked = json.loads(self.body)["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LARGE else "regular", "shouldIgnore": False}
            for f in asked
        ]
        self.json({"files": modes})

    def _batch(self, name: str) -> None:
        if not self._authorized():
            return
        objects = [
            entry | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}}
            for entry in json.loads(self.body)["objects"]
        ]
        self.json({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def _object(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.json({"error": "wrong hash"}, 400)
            return
        self.hub.objects[oid] = self.body
        self.json({})

    def _commit(self, name: str, revision: str) -> None:
        repo = self.hub.repos.get(name)
        if not self._authorized() or not self._allowed(repo):
            return
        files = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.objects[entry["value"]["oid"]]
        oid = repo.commit(files)
        self.json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        if not self._allowed(repo):
            return
        found = repo.at(revision)
        if found is None:
            self.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return
        oid, tree = found
        if file not in tree:
            self.json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
            return
        body = tree[file]
        if len(body) >= LARGE or file in repo.claimed:  # large files are on another server
            sha256 = repo.claimed.get(file, hashlib.sha256(body).hexdigest())
            self.send(
                b"",
                302,
                Location=f"{self.hub.other}/cdn/{name}/{oid}/{file}",
                X_Repo_Commit=oid,
                X_Linked_Size=str(len(body)),
                X_Linked_Etag=f'"{sha256}"',
            )
            return
        self._send_part(body, ETag=f'"{_blob(body)}"', X_Repo_Commit=oid)

    def _content(self, name: str, revision: str, file: str) -> None:
        self._send_part(self.hub.repos[name].at(revision)[1][file])

    def _send_part(self, body: bytes, **headers: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            self.send(body, Accept_Ranges="bytes", **headers)
            return
        first = int(asked[1])
        last = min(int(asked[2] or len(body) - 1), len(body) - 1)
        span = f"bytes {first}-{last}/{len(body)}"
        self.send(body[first : last + 1], 206, Content_Range=span, Accept_Ranges="bytes", **headers)


def _blob(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
