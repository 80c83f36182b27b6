"""Moved; the old path works for one more release."""

from airflow_batch._moved import moved

__getattr__ = moved(
    __name__, "airflow_batch._sync.desired", WantedCampaign="DesiredCampaign", read_wanted="read_desired"
)
