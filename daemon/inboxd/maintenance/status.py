"""The state of the daemon in one line, for `systemctl status`."""

from inboxd.accounts.manager import AccountManager
from inboxd.maintenance.health import DaemonHealth
from inboxd.runtime.plural import counted


def status_line(accounts: AccountManager, health: DaemonHealth) -> str:
    """What is wrong with the daemon, how many accounts are served, and how their budgets are."""
    managed = list(accounts.served.values())
    receiving = "; ".join([*health.problems, *health.degraded]) or "receiving"
    idle = sum(not one.account.callable for one in managed)
    paused = sum(one.graph.budget.report().paused_until is not None for one in managed)
    without_calls = f", {idle} without calls" if idle else ""
    budget = f"paused for {paused}" if paused else "ok"
    return f"{receiving}; {counted(len(managed), 'account')}{without_calls}; budget {budget}"
