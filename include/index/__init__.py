"""The label index: one immutable DuckDB file beside the results, from which people search in milliseconds.

`rows` reads Parquet, `build` keeps the tables, `refresh` brings them up to the results and publishes, `published` is where the
file lies in S3, `verify` counts it all again. `search` asks an opened file, and needs nothing else.
"""
