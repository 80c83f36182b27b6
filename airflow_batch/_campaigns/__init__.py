"""One campaign: its reference, what is sent, the rules, the plan (pure), and what acts on it (change, create, delete).

Nothing here imports Airflow. What it needs from outside (the hook, the clock, the task instance and its state) is
described in ``protocol.py``.
"""
