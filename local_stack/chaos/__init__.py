"""The promises under fire: runs whose processes are killed at chosen AWS calls while local AWS misbehaves, then the verdict.

``python -m local_stack.chaos --seeds 500 --seed-start 1000`` plays a story a seed, and says how to replay one that fails.
"""
