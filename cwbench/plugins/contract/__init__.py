"""What each kind of plugin promises, and the checks that hold it to that."""
