"""One POST that is made once, and what is known after it.

Meta answered, well or with an error; or the call certainly did not leave (`NotSentError`); or nobody can say
(`OutcomeUnknownError`): then Meta may have done what was asked.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.graph import Answer
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.errors import InboxdError, StorageError


class NotSentError(InboxdError):
    """The call was certainly not made: no connection, or no token. Trying again cannot send twice."""

    def __init__(self, message: str, *, needs_token: bool = False) -> None:
        super().__init__(message)
        self.needs_token = needs_token


class OutcomeUnknownError(InboxdError):
    """The call was made, and its answer was not seen or says nothing. Meta may have sent the message."""


async def post_once(
    graph: AccountGraph,
    path: str,
    body: Mapping[str, Any],
    *,
    patience: int,
    in_words: Callable[[GraphError], GraphError],
) -> Answer:
    """Meta's answer, which may be an error: then what `in_words` makes of it.

    `patience` says how many times the usual timeout the answer is waited for. Raises NotSentError,
    OutcomeUnknownError, and nothing else.
    """
    seen: list[Answer] = []
    left = False

    async def call(token: str, proof: str | None) -> Answer:
        nonlocal left
        left = True
        answer = await graph.post(path, body, token, proof, patience)
        if answer.error is not None and not answer.proof_refused:
            answer = answer._replace(error=in_words(answer.error))
        seen.append(answer)
        return answer

    try:
        await graph.exchange(call, _at_once)
    except StorageError:  # a limit could not be stored; Meta's answer counts all the same
        if not seen:
            raise
    except GraphError as error:
        if left and not error.unsent:
            msg = f"Meta's answer was not seen: {error}."
            raise OutcomeUnknownError(msg) from error
        raise NotSentError(str(error), needs_token=error.action is FailureAction.NEEDS_LOGIN) from error
    return seen[-1]


def _at_once() -> AbstractAsyncContextManager[None]:
    """The outbox has counted the call before it stored that it will be made."""
    return nullcontext()
