"""Rekognition Custom Labels: a state machine, limits and a meter (`account`), a trainer and a detector, and the API."""
