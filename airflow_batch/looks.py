"""Moved; the old path works for one more release."""

from airflow_batch._moved import moved

__getattr__ = moved(
    __name__,
    "airflow_batch.triggers._poll",
    Look="Poll",
    LiveLook="LivePoll",
    StatsLook="StatsPoll",
    read_look="read_poll",
)
