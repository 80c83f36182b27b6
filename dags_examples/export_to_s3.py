"""Every night, campaigns and statistics to S3, one task for each app.

The connection id of the storage stands before the bucket; it needs ``apache-airflow-providers-amazon[s3fs]``. For
Google Cloud Storage write ``gs://google_cloud_default@bucket/...``, for Azure ``abfs://wasb_default@container/...``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_batch.operators.export import BatchExportCampaignsOperator

with DAG(
    "export_to_s3",
    schedule="@daily",
    catchup=False,
    tags=["batch", "example"],
    doc_md=__doc__,
):
    # [START export]
    BatchExportCampaignsOperator.partial(
        task_id="export", destination="s3://aws_default@marketing/batch", file_format="csv"
    ).expand(apps=["ios", "android"])
    # [END export]
