"""What the Dags share: tasks, the model's session, defaults. The only place where Airflow meets ``include``."""
