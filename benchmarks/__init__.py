"""Measurements, each a module to run; each ends with one line of JSON and exits non-zero when its goal is missed."""
