"""The contract checks: call :func:`check` on a plugin in a test of your own.

from cwbench.testing import check
from my_plugin import MyAttack

def test_contract():
    check(MyAttack())
"""

from cwbench.testing.check import check
from cwbench.testing.contract import ContractError

__all__ = ["ContractError", "check"]
