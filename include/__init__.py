"""The product's own library: the stages, in pure Python. It never imports Airflow; AWS clients are passed in."""
