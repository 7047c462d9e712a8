"""``python -m local_stack.chaos``: a story a seed; exit status 1 where one of them broke a promise."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from local_stack.chaos.nursery import Nursery
from local_stack.chaos.story import tell
from local_stack.chaos.world import a_theatre

PROGRESS_SECONDS = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local_stack.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many stories (default %(default)s)")
    parser.add_argument("--seed-start", type=int, default=0, help="the first one's seed (default %(default)s)")
    parser.add_argument("-v", "--verbose", action="store_true", help="what each story's runs logged")
    chosen = parser.parse_args()
    counts: Counter[str] = Counter()
    began = told_at = time.monotonic()
    with a_theatre() as theatre, Nursery(theatre.aws.endpoint_url) as nursery:
        for number in range(chosen.seeds):
            told = tell(theatre, nursery, chosen.seed_start + number)
            verdict = told.verdict
            counts.update(stories=1, runs=told.runs, faults=told.faults, untidy=len(verdict.untidy))
            counts.update(lost=len(verdict.lost), doubled=len(verdict.doubled), left=len(verdict.left_running))
            if chosen.verbose:
                print("\n".join(told.log))
            if not verdict.is_clean:
                print(told, flush=True)
            if time.monotonic() - told_at > PROGRESS_SECONDS:
                told_at = time.monotonic()
                print(f"  {number + 1} of {chosen.seeds} stories, {told_at - began:.0f} s", flush=True)
    print(
        f"{counts['stories']} stories, {counts['runs']} runs, {counts['faults']} faults and kills: "
        f"{counts['lost']} lost, {counts['doubled']} doubled, {counts['left']} left running, {counts['untidy']} untidy"
    )
    return 1 if counts["lost"] + counts["doubled"] + counts["left"] + counts["untidy"] else 0


if __name__ == "__main__":
    sys.exit(main())
