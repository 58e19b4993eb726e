"""A hub is asked only where that is allowed, for a commit by its full hash, and gives safetensors and texts only."""

import http.server
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trainers import events, model_import
from trainers.errors import TrainerError
from trainers.model_folder import check_folder

COMMIT = "a" * 39 + "1"


@pytest.fixture
def folder(tiny_model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny_model, copy)
    return copy


def nothing_left(tmp_path):
    return [each.name for each in tmp_path.iterdir() if each.name.startswith((".target", "target"))] == []


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


class Hub(http.server.BaseHTTPRequestHandler):
    """The two addresses of a hub that a download uses: what a commit holds, and its files."""

    folder: Path
    asked: list[str]
    sha = COMMIT

    def do_GET(self, *, has_body=True):
        self.asked.append(self.path)
        if self.path.startswith("/api/models/"):
            names = sorted(each.name for each in self.folder.iterdir())
            files = [{"rfilename": name, "size": (self.folder / name).stat().st_size} for name in names]
            return self._send(
                json.dumps({"id": "o/m", "sha": self.sha, "siblings": files}).encode(), "application/json"
            )
        place = self.folder / self.path.rpartition("/")[2].partition("?")[0]
        if not place.is_file():
            self.send_error(404)
            return None
        return self._send(place.read_bytes(), "application/octet-stream", has_body=has_body)

    def do_HEAD(self):
        self.do_GET(has_body=False)

    def _send(self, content, kind, *, has_body=True):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"e"')
        self.send_header("X-Repo-Commit", self.sha)
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def hub(folder):
    handler = type("Handler", (Hub,), {"folder": folder, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.address = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


def downloaded(hub, tmp_path, *more, revision=COMMIT):
    """A process of its own: whether a hub may be asked is decided when the library is loaded."""
    command = [sys.executable, "-m", "trainers", "download", "o/m", "--revision", revision, "--to", tmp_path / "target"]
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run([*map(str, command), *more], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, events.decode(done.stdout.splitlines()[-1])


def test_a_commit_of_a_hub_is_taken_without_its_pickles_and_code(hub, folder, tmp_path):
    expected = check_folder(folder).digest
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    (folder / "modeling_x.py").write_text("raise SystemExit")
    code, said = downloaded(hub, tmp_path, "--allow-network")
    assert code == 0, said
    assert (said.digest, said.source_digest, said.kind) == (expected, f"git:{COMMIT}", "hub")
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]
    assert check_folder(tmp_path / "target").digest == expected


def test_a_hub_is_not_asked_unless_the_site_says_so(hub, tmp_path):
    code, said = downloaded(hub, tmp_path)
    assert (code, said.code, hub.asked) == (2, "network.forbidden", [])


def test_a_branch_is_no_revision_and_another_commit_is_not_taken(hub, tmp_path, monkeypatch):
    with pytest.raises(TrainerError) as caught:
        model_import.download("o/m", "main", tmp_path / "target", "-", is_allowed=True)
    assert caught.value.code == "hub.revision"
    hub.sha = "b" * 40
    code, said = downloaded(hub, tmp_path, "--allow-network")
    assert (code, said.code) == (2, "hub.unusable")
    assert nothing_left(tmp_path)


def test_a_commit_with_pickles_only_is_refused(hub, folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    code, said = downloaded(hub, tmp_path, "--allow-network")
    assert (code, said.code) == (2, "hub.unusable")
    assert "no safetensors" in said.message
