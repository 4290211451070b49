"""Processes killed at random moments: the board is the one before or the one after."""

import multiprocessing
import random
import time

from cwbench.leaderboard.build import build, check
from cwbench.leaderboard.place import RENDERED, Place
from cwbench.leaderboard.submit import submit

KILLS = 100


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cwbench.leaderboard.submit", "cwbench.leaderboard.build"])
    return context


def _build(root):
    build(Place(root))


def _submit(paths, root):
    submit(paths, Place(root))


def rendered(place):
    return tuple((place.root / name).read_bytes() for name in RENDERED)


def killed_after(process, seconds):
    process.start()
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode == -9


def test_builds_killed_a_hundred_times(board, run):
    """Two states of the entries take turns; what is on disk is at any time the rendering of one of them, whole."""
    context = _context()
    moving = next(board.files())
    states = []
    for _ in range(2):
        build(board)
        states.append(rendered(board))
        if moving.exists():
            moving.rename(board.root / "aside.json")
    for _ in range(2):  # the first one also starts the server that forks
        began = time.perf_counter()
        whole = context.Process(target=_build, args=(board.root,))
        whole.start()
        whole.join()
        span = time.perf_counter() - began
    rng = random.Random(0)
    kills, seen = 0, set()
    for turn in range(KILLS):
        if turn % 2:
            (board.root / "aside.json").rename(moving)
        else:
            (moving if moving.exists() else board.root / "aside.json").rename(board.root / "aside.json")
        kills += killed_after(context.Process(target=_build, args=(board.root,)), rng.uniform(0, span))
        check(board)  # whoever reads finishes what was decided
        found = rendered(board)
        assert found in states
        seen.add(states.index(found))
    assert seen == {0, 1}
    assert kills > KILLS / 4
    build(board)
    assert not list(board.root.glob(".next*"))


def test_submissions_killed_a_hundred_times(run, place):
    """An entry is there whole or not at all, and whoever submits again completes what was cut off."""
    context = _context()
    paths = [run(number) for number in range(4)]
    targets = None
    rng = random.Random(1)
    kills = 0
    for _ in range(KILLS):
        kills += killed_after(context.Process(target=_submit, args=(paths, place.root)), rng.uniform(0, 0.4))
        if place.entries.is_dir():
            assert len(check(place).entries) in range(5)
            targets = list(place.files())
            for path in targets:
                path.unlink()
    assert kills > KILLS / 10
    submit(paths, place)
    assert len(check(place).entries) == 4
