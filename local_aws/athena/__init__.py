"""Athena: SQL that really runs, by DuckDB, over the objects of the local S3 and the tables of the local Glue catalog.

Athena's dialect is read by sqlglot and analysed here: names are resolved and every expression has Trino's type before a
line of DuckDB's SQL is written. What is not known to mean the same in both is refused, never guessed.
"""
