"""Telling observers of a run: one that fails is named once and told no more, and the run goes on."""

import sys
import traceback
from contextlib import redirect_stdout
from typing import Any, final

import pluggy

from cwbench.internal.errors import named_reason


@final
class Observers:
    """The plugins that observe one run."""

    def __init__(self, manager: pluggy.PluginManager, *, silent: bool = False) -> None:
        """``silent``: tell nobody, as in all processes of a team but its leader's."""
        self.manager, self.silent = manager, silent
        self.silenced: set[str] = set()

    def tell(self, hook: str, **event: object) -> None:
        """Call every implementation of a hook with those of the arguments that it takes."""
        caller: pluggy.HookCaller = getattr(self.manager.hook, hook)
        if self.silent:
            return
        for implementation in reversed(caller.get_hookimpls()):
            if implementation.plugin_name not in self.silenced:
                arguments = {name: event[name] for name in implementation.argnames}
                self._call(implementation, hook, arguments)

    def _call(self, implementation: Any, hook: str, arguments: dict[str, object]) -> None:
        try:
            with redirect_stdout(sys.stderr):  # stdout may be the JSON of a report
                implementation.function(**arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an observer does, the run goes on
            self.silenced.add(implementation.plugin_name)
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"cwbench: plugin {implementation.plugin_name} failed in {hook} and is told no more: "
                f"{named_reason(error)} ({place.filename}:{place.lineno})",
                file=sys.stderr,
            )
