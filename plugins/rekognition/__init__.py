"""Amazon Rekognition Custom Labels for Airflow: hook, operators, sensor, triggers, links and waiters."""
