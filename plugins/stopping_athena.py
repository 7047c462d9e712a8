"""The provider's trigger for Athena queries, and what it lacks: a deferred task that is killed stops its query.

The triggerer imports it from here; a Dag's own folder it does not know.
"""

from __future__ import annotations

from airflow.providers.amazon.aws.triggers.athena import AthenaTrigger


class StoppingAthenaTrigger(AthenaTrigger):
    """Trigger when an Athena query has ended; stops the query when a user ends the deferred task."""

    async def on_kill(self) -> None:
        query_id = self.waiter_args["QueryExecutionId"]
        async with await self.hook().get_async_conn() as client:  # type: ignore[no-untyped-call]
            await client.stop_query_execution(QueryExecutionId=query_id)
        self.log.info("Query %s stopped on kill.", query_id)
