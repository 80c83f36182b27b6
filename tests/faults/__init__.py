"""The fault matrix: what can go wrong (table.py), where (servers.py), and a task of Airflow that meets it (driver.py).

Run twice: by integration/test_fault_matrix.py for our operator, by ``make bench-faults`` for what users would pick
instead, too.
"""
