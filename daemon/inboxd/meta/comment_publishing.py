"""Publishes a comment of the account: one call, made once, and what is known after it, as `send_client` says it.

Errors mean something else here than for a message: a missing permission for comments stops no message.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from inboxd.domain.outbound import ReasonCode
from inboxd.domain.retry import FailureAction
from inboxd.meta import answers
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.graph import Answer
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.send_client import NotSentError, OutcomeUnknownError
from inboxd.meta.send_errors import SendError, SendFailure, SendRow, send_error
from inboxd.runtime.errors import StorageError

PATIENCE: Final = 1
"""How many times the usual timeout an answer is waited for."""
_NO_ACCESS: Final = SendRow(
    SendFailure.REFUSED, ReasonCode.NO_PERMISSION, "the app may not write comments for this account"
)
_GONE: Final = SendRow(SendFailure.REFUSED, ReasonCode.REFUSED, "the comment was deleted, or the app may not see it")
_PARAMETER: Final = SendRow(
    SendFailure.REFUSED,
    ReasonCode.BAD_CONTENT,
    "Meta does not accept this reply: the comment is hidden, comments are switched off, or the text is not allowed",
)
_ROWS: Final = {(100, None): _PARAMETER, (100, 33): _GONE, (3, None): _NO_ACCESS, (10, None): _NO_ACCESS}


class CommentPublisher:
    """Writes comments for one account."""

    def __init__(self, graph: AccountGraph) -> None:
        self._graph = graph

    async def publish(self, path: str, body: dict[str, str]) -> str:
        """POST `body` to an edge that takes comments. Returns the id of the new one.

        Raises SendError, NotSentError, OutcomeUnknownError, and nothing else.
        """
        seen: list[Answer] = []
        left = False

        async def call(token: str, proof: str | None) -> Answer:
            nonlocal left
            left = True
            answer = await self._graph.post(path, body, token, proof, PATIENCE)
            if answer.error is not None and not answer.proof_refused:
                answer = answer._replace(error=publish_error(answer.error))
            seen.append(answer)
            return answer

        try:
            await self._graph.exchange(call, _at_once)
        except StorageError:  # a limit could not be stored; Meta's answer counts all the same
            if not seen:
                raise
        except GraphError as error:
            if left and not error.unsent:
                msg = f"Meta's answer was not seen: {error}."
                raise OutcomeUnknownError(msg) from error
            raise NotSentError(str(error), needs_token=error.action is FailureAction.NEEDS_LOGIN) from error
        answer = seen[-1]
        if answer.error is not None:
            raise answer.error
        found = answers.identifier(answer.fields.get("id"))
        if found is None:
            msg = "Meta answered without a usable id of the comment."
            raise OutcomeUnknownError(msg)
        return found


def publish_error(error: GraphError) -> SendError:
    """What an error of Meta's means for a comment that was to be published."""
    found = send_error(error)
    row = _ROWS.get((error.code or 0, error.subcode))
    if row is None and found.send_row.failure in {SendFailure.STOPPED, SendFailure.RESTRICTED, SendFailure.NO_TAG}:
        row = _NO_ACCESS
    return found if row is None else SendError(error.code, error.subcode, row)


def _at_once() -> AbstractAsyncContextManager[None]:
    """The outbox has counted the call before it stored that it will be made."""
    return nullcontext()
