"""The leaderboard: reports merged, ranked, checked and rendered. It knows only reports: neither torch nor plugins."""
