"""Writing files: whole or not at all, whatever is at the path, whoever else writes, wherever the disk ends."""

import os
import resource
import stat
import threading
import time
from pathlib import Path

import pytest

from labkit import _files
from labkit._files import locked, read, replace
from tests.killing import child, killed_at
from tests.waiting import until

OLD, NEW = b"old " * 1_000, b"new " * 2_000


def visible(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


def test_the_pieces_are_the_file(tmp_path):
    replace(str(tmp_path / "a"), [b"one", memoryview(b"two"), b""])
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert visible(tmp_path) == ["a"]


def test_a_link_stays_and_its_target_changes(tmp_path):
    (tmp_path / "target").write_bytes(OLD)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("made")
    for name in ("link", "dangling"):
        replace(tmp_path / name, [NEW])
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "target").read_bytes() == (tmp_path / "made").read_bytes() == NEW


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o444])
def test_the_mode_stays(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(OLD)
    path.chmod(mode)
    replace(path, [NEW])
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    replace(tmp_path / "ours", [NEW])
    (tmp_path / "any").write_bytes(NEW)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_nothing_but_a_regular_file_is_replaced(tmp_path, refuses):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to(os.devnull)
    allowed = "allowed: a regular file or a name that is free"
    kinds = {"pipe": "a device, a pipe or a socket", "folder": "a folder"}
    for name, kind in kinds.items():
        refuses(ValueError, f"path is {tmp_path / name}, {kind}; {allowed}", replace, tmp_path / name, [NEW])
    said = f"path is {os.devnull}, a device, a pipe or a socket; {allowed}"
    refuses(ValueError, said, replace, tmp_path / "null", [NEW])
    refuses(ValueError, said, replace, os.devnull, [NEW])
    refuses(ValueError, said, read, os.devnull)
    said = f"path is {tmp_path}/a/, which names a folder; {allowed}"
    refuses(ValueError, said, replace, f"{tmp_path}/a/", [NEW])
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_missing_folder_is_named(tmp_path, refuses):
    said = f"{tmp_path}/no/a cannot be written: its folder {tmp_path}/no does not exist"
    refuses(FileNotFoundError, said, replace, f"{tmp_path}/no/a", [NEW])


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(OLD)
    monkeypatch.setattr(_files.secrets, "token_hex", lambda n: "guessed")
    (tmp_path / ".labkit-guessed.part").symlink_to("victim")
    with pytest.raises(OSError, match="a cannot be written, and is unchanged: File exists"):
        replace(tmp_path / "a", [NEW])
    assert (tmp_path / "victim").read_bytes() == OLD


def test_threads_that_write_one_file_leave_one_of_theirs(tmp_path):
    path, errors = tmp_path / "a", []
    contents = [bytes([i]) * 50_000 for i in range(8)]

    def write(raw):
        try:
            for _ in range(8):
                replace(path, [raw[:25_000], raw[25_000:]])
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(raw,)) for raw in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in contents
    assert visible(tmp_path) == ["a"]


def test_a_disk_that_ends_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(OLD)
    with child(write_beyond, path, tmp_path / "said") as process:
        process.join()
    assert (tmp_path / "said").read_text() == f"[Errno 27] {path} cannot be written, and is unchanged: File too large"
    assert path.read_bytes() == OLD
    assert visible(tmp_path) == ["a", "said"]


def write_beyond(path, said):
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))  # the system ends files there
    try:
        replace(path, [NEW])
    except OSError as error:
        said.write_text(str(error))


def test_killed_at_any_step_a_write_leaves_one_whole_file(tmp_path):
    path, call, seen = tmp_path / "a", 0, set()
    path.write_bytes(OLD)
    while killed_at(call := call + 1, replace, path, [NEW]):
        seen.add(path.read_bytes())
        path.write_bytes(OLD)
    assert call > 4
    assert seen == {OLD, NEW}
    left = [name for name in visible(tmp_path) if name != "a"]
    assert left
    for name in left:
        os.utime(tmp_path / name, (time.time() - 2 * _files.ABANDONED,) * 2)
    (tmp_path / ".labkit-young.part").touch()
    replace(path, [NEW])
    assert visible(tmp_path) == [".labkit-young.part", "a"]


def append(path, n):
    for _ in range(n):
        with locked(path):
            lines = path.read_text() if path.exists() else ""
            time.sleep(0.001)
            replace(path, [(lines + f"{os.getpid()}\n").encode()])


def test_locked_keeps_processes_and_threads_apart(tmp_path):
    path = tmp_path / "log"
    with child(append, path, 20) as one, child(append, path, 20) as other:
        threads = [threading.Thread(target=append, args=(path, 20)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for worker in (one, other, *threads):
            worker.join()
    assert len(path.read_text().splitlines()) == 80


def hold(path, ready):
    with locked(path):
        ready.touch()
        time.sleep(600)


def test_a_killed_process_holds_nothing_and_a_living_one_is_waited_for_in_words(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_files, "PATIENCE", 0.1)
    path, ready = tmp_path / "a", tmp_path / "ready"
    with child(hold, path, ready) as holder:
        until(ready.exists)
        threading.Timer(0.5, holder.kill).start()
        with locked(path):
            assert not holder.is_alive()
    assert capsys.readouterr().err == f"waiting for another process to be done with {path}\n"
