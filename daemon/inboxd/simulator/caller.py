"""Who makes a call."""

from typing import NamedTuple


class Caller(NamedTuple):
    """Whose token a call has."""

    account_id: str
    page_id: str | None
    """Set with Facebook Login."""

    def is_own_node(self, node: str) -> bool:
        """Whether `node` is where the account's messages and conversations are: with Facebook Login, the Page."""
        return node in {"me", self.account_id if self.page_id is None else self.page_id}

    def is_account(self, node: str) -> bool:
        """Whether `node` is the Instagram account itself."""
        return node == self.account_id or (self.page_id is None and node == "me")
