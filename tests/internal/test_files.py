import signal
import subprocess
import sys

import pytest

from cwbench.internal.errors import CwbenchError
from cwbench.internal.files import require_writable, write_atomically


def test_a_write_replaces_whole_files(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(CwbenchError, match="cannot write"):
        write_atomically(tmp_path / "no" / "a.json", b"new")


def test_room_is_really_tried_and_nothing_stays_behind(tmp_path):
    require_writable(tmp_path / "runs" / "deep", 3 << 20)
    (tmp_path / "file").write_text("")
    with pytest.raises(CwbenchError, match="choose another folder"):
        require_writable(tmp_path / "file" / "runs", 1)
    with pytest.raises(CwbenchError):
        require_writable(tmp_path / "new" / ("x" * 300), 1)
    assert not (tmp_path / "new").exists()


FULL = """
import resource, signal, sys
from pathlib import Path
from cwbench.internal.errors import CwbenchError
from cwbench.internal.files import require_writable, write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
write_atomically(folder / "kept", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for attempt in (lambda: require_writable(folder, 2 << 20), lambda: write_atomically(folder / "kept", bytes(2 << 20))):
    try:
        attempt()
    except CwbenchError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files, as on POSIX")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """The system refuses to write more than a megabyte, as a full disk would."""
    result = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = result.stdout.splitlines()
    assert first.startswith("cannot write into")
    assert second.startswith("cannot write")
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
