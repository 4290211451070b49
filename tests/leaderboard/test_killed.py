"""Processes killed at random moments: the board is the one before or the one after."""

import multiprocessing
import random
import time

from cwbench.leaderboard.build import build, check
from cwbench.leaderboard.layout import RENDERED, Place
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


class Killer:
    """Starts processes and kills them at random moments, in a window that follows how long they live."""

    def __init__(self, seed):
        self.random, self.window, self.kills = random.Random(seed), 0.2, 0

    def turn(self, process):
        process.start()
        time.sleep(self.random.uniform(0, self.window))
        process.kill()
        process.join()
        killed = process.exitcode == -9
        self.kills += killed
        self.window *= 1.05 if killed else 0.85


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
    killer, seen, turn = Killer(0), set(), 0
    while killer.kills < KILLS or len(seen) < 2:
        turn += 1
        if turn % 2:
            (board.root / "aside.json").rename(moving)
        else:
            (moving if moving.exists() else board.root / "aside.json").rename(board.root / "aside.json")
        killer.turn(context.Process(target=_build, args=(board.root,)))
        check(board)  # whoever reads finishes what was decided
        found = rendered(board)
        assert found in states
        seen.add(states.index(found))
    build(board)
    assert not list(board.root.glob(".next*"))


def test_submissions_killed_a_hundred_times(run, place):
    """An entry is there whole or not at all, and whoever submits again completes what was cut off."""
    context = _context()
    paths = [run(number) for number in range(4)]
    killer = Killer(1)
    while killer.kills < KILLS:
        killer.turn(context.Process(target=_submit, args=(paths, place.root)))
        if place.entries.is_dir():
            assert len(check(place).entries) in range(5)
            for path in list(place.files()):
                path.unlink()
    submit(paths, place)
    assert len(check(place).entries) == 4
