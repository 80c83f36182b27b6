"""What the package needs from Airflow that differs between versions or depends on the task context."""
