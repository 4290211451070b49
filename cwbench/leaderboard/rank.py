"""Entries to tables: only like is ranked with like, and seeds of the same training share a row."""

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cwbench.internal import digest
from cwbench.leaderboard.board import Board, Row, Standing, Table
from cwbench.leaderboard.entry import WORST_CASE, Entry
from cwbench.leaderboard.verification import Verification
from cwbench.report.worst_class import Estimate, Profile, combined, corrected_minimum

Rows = list[tuple[dict[str, Any], Standing]]

DECIMALS = 9


def rank(entries: Iterable[Entry], verifications: Mapping[str, Verification]) -> Board:
    """Return the board of some entries. Their order does not matter."""
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.table].append(entry)
    tables = [_table(json.loads(key), members[key], verifications) for key in sorted(members)]
    tables.sort(key=lambda table: (table.dataset, table.norm, table.eps, table.suite, table.digest))
    every = [entry for own in members.values() for entry in own]
    sources = sorted([entry.id, entry.digest, _means(entry, verifications) or ""] for entry in every)
    return Board(entries=len(sources), digest=digest.of_json(sources), tables=tables)


def _table(head: dict[str, Any], entries: Sequence[Entry], verifications: Mapping[str, Verification]) -> Table:
    rows = [_row(group, head, verifications) for group in _groups(entries)]
    lowest_first = [(row, row["conditions"][WORST_CASE]) for row in rows]
    ranked = _ranked(lowest_first)
    return Table(**head, rows=[Row(**row) for row in ranked])


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the entries of each row, by seed. The same seed twice is another training: it gets a row of its own."""
    by_row: dict[str, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in sorted(entries, key=lambda entry: (entry.created, entry.id)):
        by_row[entry.row][entry.seed].append(entry)
    groups: list[list[Entry]] = []
    for key in sorted(by_row):
        seeds = by_row[key]
        turns = range(max(map(len, seeds.values())))
        groups += [[seeds[seed][turn] for seed in sorted(seeds) if turn < len(seeds[seed])] for turn in turns]
    return groups


def _row(
    entries: Sequence[Entry], head: Mapping[str, Any], verifications: Mapping[str, Verification]
) -> dict[str, Any]:
    n, superclasses = head["n_per_class"], head["superclasses"]
    conditions: dict[str, Standing] = {}
    worst_case: list[Estimate] = []
    for name in entries[0].correct:
        by_class = zip(*(entry.correct[name] for entry in entries), strict=True)
        estimates = [combined(counts, size) for counts, size in zip(by_class, n, strict=True)]
        overall = combined([sum(entry.correct[name]) for entry in entries], sum(n))
        conditions[name] = _standing(estimates, overall, superclasses)
        worst_case = estimates if name == WORST_CASE else worst_case
    found = json.loads(entries[0].row)
    return {
        "subject": found["subject"],
        "defense": found["defense"],
        "backbone": found["backbone"],
        "recipe": found["recipe_name"],
        "data": found["data"],
        "seeds": [entry.seed for entry in entries],
        "entries": [entry.id for entry in entries],
        "verified": [_means(entry, verifications) for entry in entries],
        "corrected": _rounded(corrected_minimum(worst_case)),
        "conditions": conditions,
    }


def _rounded(share: float | None) -> float | None:
    """Return a share whose digits every machine agrees on: numerical integration differs in the last ones."""
    return None if share is None else round(share, DECIMALS)


def _means(entry: Entry, verifications: Mapping[str, Verification]) -> str | None:
    found = verifications.get(entry.id)
    return found.means if found and found.digest == entry.digest else None


def _standing(estimates: Sequence[Estimate], overall: Estimate, superclasses: Mapping[str, list[int]]) -> Standing:
    profile = Profile.of(estimates)
    shares = [estimate.accuracy for estimate in estimates]
    return Standing(
        overall=overall.accuracy,
        overall_interval=overall.interval(),
        classes=shares,
        intervals=[estimate.interval() for estimate in estimates],
        superclasses={name: _mean([shares[index] for index in group]) for name, group in superclasses.items()},
        worst_class=profile and profile.worst,
        worst=profile and profile.accuracy,
        worst_interval=profile and profile.interval,
        gap=profile and profile.gap,
        spread=profile and profile.spread,
        worst_tenth=profile and profile.worst_tenth,
        per_interval=list(profile.per_interval) if profile else [],
    )


def _mean(shares: Sequence[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None


def _ranked(rows: Rows) -> list[dict[str, Any]]:
    """Return rows with their ranks, the most robust worst class first; equals in the order of their names."""
    lows = sorted(standing.worst_interval[0] for _, standing in rows if standing.worst_interval)
    highs = sorted(standing.worst_interval[1] for _, standing in rows if standing.worst_interval)
    values = sorted(standing.worst or 0.0 for _, standing in rows)
    ranked = []
    for row, standing in sorted(
        rows, key=lambda pair: (-(pair[1].worst or 0.0), pair[0]["subject"], pair[0]["entries"])
    ):
        low, high = standing.worst_interval or (0.0, 1.0)
        ranked.append(
            row
            | {
                "rank": 1 + len(values) - bisect_right(values, standing.worst or 0.0),
                "best_rank": 1 + len(lows) - bisect_right(lows, high),
                "last_rank": len(rows) - bisect_left(highs, low),
            }
        )
    return ranked
