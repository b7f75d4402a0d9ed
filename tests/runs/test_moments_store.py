"""Moments of recurring work outlive whoever stored them."""

from inboxd.runs.moments_store import MomentStore
from inboxd.storage.database import Database


async def test_a_moment_is_kept_by_name_and_replaced(database: Database) -> None:
    assert await MomentStore(database).at("backfill") is None
    await MomentStore(database).set("backfill", 1)
    await MomentStore(database).set("backfill", 2)
    await MomentStore(database).set("clock", 3)
    assert await MomentStore(database).at("backfill") == 2
