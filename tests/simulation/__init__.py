"""A search for worlds in which a promise breaks: models of Batch, Airflow and DAG authors, and invariants.

Run it with ``PYTHONPATH=tests python -m simulation --worlds 20000``. See :mod:`simulation.worlds` for the parts.
"""
