"""The state of the daemon in one line, for `systemctl status`."""

from inboxd.accounts.manager import AccountManager
from inboxd.maintenance.health import DaemonHealth
from inboxd.runtime.plural import counted


def status_line(accounts: AccountManager, health: DaemonHealth) -> str:
    """What is wrong with the daemon, how many accounts are served, and how their budgets are."""
    served = list(accounts.served.values())
    receiving = "; ".join([*health.problems, *health.degraded]) or "receiving"
    idle = sum(not one.account.callable for one in served)
    paused = sum(one.graph.budget.report().paused_until is not None for one in served)
    needs = f", {idle} without calls" if idle else ""
    return f"{receiving}; {counted(len(served), 'account')}{needs}; budget {f'paused for {paused}' if paused else 'ok'}"
