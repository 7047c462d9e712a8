"""A schedule for Dags that have intervals but never run by themselves: only a backfill (the command, the button) runs them.

Airflow backfills no Dag without a schedule, and a schedule also runs the Dag from day to day. A backfill asks for all
intervals of its dates; the scheduler, for a Dag that does not catch up, only for the newest one: that question gets no answer.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable


class BackfillOnlyTimetable(CronDataIntervalTimetable):
    """Intervals of a cron expression, for Dags with ``catchup=False``."""

    @property
    def summary(self) -> str:
        return f"only backfills ({super().summary})"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if not restriction.catchup:
            return None
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )


class BackfillOnlyPlugin(AirflowPlugin):
    """Lets Airflow find the timetable in stored Dags."""

    name = "backfill_only"
    timetables = [BackfillOnlyTimetable]  # noqa: RUF012 - as Airflow declares it
