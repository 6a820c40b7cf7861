"""Fetching CIFAR-10: whatever goes wrong is one sentence on stderr with exit code 1, and nothing is written."""

import gzip
import http.server
import io
import json
import socket
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from labkit.data import __main__ as command
from labkit.data import fetch, manifest

IMAGES = bytes(2 * fetch.ROW)
WHOLE = dict.fromkeys(fetch.BATCHES, IMAGES)


@pytest.fixture(autouse=True)
def listed(small_data):
    """A data folder whose manifest lists all of CIFAR-10."""
    names = ("train", "test", "train-labels", "test-labels")
    lines = {f"cifar10-full/{name}.npy": {"sha256": "0", "bytes": 0} for name in names}
    (small_data / "manifest.json").write_text(json.dumps(manifest() | lines))
    return small_data


@pytest.fixture
def told(capsys, listed):
    """told(*arguments): what the command says."""

    def run(*arguments):
        assert command.main(["fetch", "cifar10", *map(str, arguments)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert not (listed / "cifar10-full").exists()
        (line,) = said.err.splitlines()
        return line

    return run


def archive(parts, mode="w:gz"):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as packed:
        for name, body in parts.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(body)
            packed.addfile(member, io.BytesIO(body))
    return raw.getvalue()


# from the web

NOISE = np.random.default_rng(0).bytes(20_000)
CUT = archive(dict.fromkeys(fetch.BATCHES, NOISE[: 2 * fetch.ROW]))
WRONG_SUM = gzip.compress(archive(WHOLE, "w"))
OTHER = "is not the published set: train.npy differs; nothing written"
DAMAGED = "the archive of CIFAR-10 is damaged or cut short ("
ARCHIVES = {
    "no archive": (NOISE, DAMAGED),
    "nothing": (b"", DAMAGED),
    "a page": (b"<html>Moved</html>", DAMAGED),
    "cut short": (CUT[: len(CUT) // 2], DAMAGED),
    "a wrong sum": (WRONG_SUM[:-8] + bytes(8), OTHER),
    "a flipped byte": (CUT[:3_000] + bytes([CUT[3_000] ^ 255]) + CUT[3_001:], OTHER),
    "a missing batch": (archive({k: v for k, v in WHOLE.items() if k != "test_batch.bin"}), "holds no test_batch.bin"),
    "an empty batch": (archive(WHOLE | {"data_batch_2.bin": b""}), "the archive of CIFAR-10 holds no data_batch_2.bin"),
    "a wrong size": (
        archive(WHOLE | {"data_batch_3.bin": IMAGES[:-1]}),
        "data_batch_3.bin in the archive of CIFAR-10 has 6,145 bytes; allowed: a multiple of 3,073",
    ),
    "other images": (archive(WHOLE), OTHER),
}


class Site(http.server.BaseHTTPRequestHandler):
    """Gives what its server holds: a status and a body, of which it may promise more than it sends."""

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        status, body, promised = self.server.reply
        self.send_response(status)
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    """A server on this machine; its `reply` may be set."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(fetch, "CIFAR_URL", f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz")
    monkeypatch.setenv("no_proxy", "*")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_not_the_published_one(site, told, name):
    raw, said = ARCHIVES[name]
    site.reply = (200, raw, None)
    assert said in told()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((404, b"gone", None), "HTTP Error 404: Not Found"),
        ((503, b"", None), "HTTP Error 503: Service Unavailable"),
        ((200, NOISE, 30_000), "IncompleteRead(20000 bytes read, 10000 more expected)"),
    ],
)
def test_a_server_that_does_not_give_it(site, told, reply, said):
    site.reply = reply
    assert told() == (
        f"{fetch.CIFAR_URL} cannot be fetched ({said}); try again later, or unpack the archive yourself and give its "
        "folder by --from"
    )


def test_a_server_that_is_not_there(site, told, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(fetch, "CIFAR_URL", f"http://127.0.0.1:{port}/")
    assert "Connection refused" in told()


def test_a_server_that_says_nothing(told, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.1)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(fetch, "CIFAR_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert "cannot be fetched (timed out)" in told()


# from a folder


@pytest.fixture
def png(tmp_path_factory):
    """A folder of PNG batches of two images each."""
    folder = tmp_path_factory.mktemp("png")
    for name in fetch.BATCHES:
        Image.new("RGB", (1_024, 2)).save(folder / name.replace(".bin", ".png"))
    (folder / "train_labels.json").write_text(json.dumps([0] * 10))
    (folder / "test_labels.json").write_text("[1, 2]")
    return folder


def test_a_binary_folder_without_a_batch(told, tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    for name in fetch.BATCHES[:-1]:
        (folder / name).write_bytes(IMAGES)
    assert told("--from", folder) == f"{folder} holds no test_batch.bin; give one that holds every batch"


def test_a_folder_that_is_not_there(told, tmp_path):
    said = "holds neither data_batch_1.bin nor data_batch_1.png; give a CIFAR-10 folder"
    assert told("--from", tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} {said}"


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("test_batch.png", None, "is missing; give a folder that holds every batch"),
        ("data_batch_1.png", NOISE, "is not a picture, or a damaged one ("),
        ("train_labels.json", None, "is missing; give a folder that holds the labels of every batch"),
        ("train_labels.json", b"[1, 2]", "does not hold the labels; allowed: a JSON list of 10 class numbers, 0 to 9"),
        ("test_labels.json", b"{", "does not hold the labels; allowed: a JSON list of 2 class numbers, 0 to 9"),
        ("test_labels.json", b"\xff", "does not hold the labels;"),
        ("test_labels.json", b"3", "does not hold the labels;"),
        ("test_labels.json", b"[1, 10]", "does not hold the labels;"),
        ("test_labels.json", b'[1, "x"]', "does not hold the labels;"),
        ("test_labels.json", b"[1, [2]]", "does not hold the labels;"),
    ],
)
def test_a_png_folder_with_a_file_that_is_missing_or_odd(told, png, name, raw, said):
    (png / name).unlink()
    if raw is not None:
        (png / name).write_bytes(raw)
    assert told("--from", png).startswith(f"{png / name} {said}")


def test_pictures_of_another_shape(told, png):
    Image.new("L", (32, 32)).save(png / "data_batch_4.png")
    assert told("--from", png) == (
        f"{png / 'data_batch_4.png'} has the shape (32, 32); allowed: (images, 1024, 3), one image per row"
    )


def test_a_picture_that_is_cut_short(told, png):
    whole = (png / "data_batch_5.png").read_bytes()
    (png / "data_batch_5.png").write_bytes(whole[: len(whole) // 2])
    assert "data_batch_5.png is not a picture, or a damaged one (" in told("--from", png)
