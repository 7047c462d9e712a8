"""What a person on call types, and what scripts call: `python -m include.cli [--json] COMMAND`.

Settings come from LABELS_* in the environment, credentials from boto3's usual places: run it where the pipeline runs, or with
your own credentials and the pipeline's settings. Nothing here starts the model but `model start`.

Exit status: 0 done, 1 it failed or found something wrong, 2 wrong usage. COMMAND --help says more of each.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from botocore.exceptions import BotoCoreError, ClientError

from include.cli import archives, audit, backlog, doctor, index, model, query, redrive, runs, search
from include.cli.arguments import Paragraphs, add_json
from include.cli.output import Answer, complain, say, warnings_shown
from include.errors import LabellingError

# Each has add(commands), which declares its commands.
MODULES = (backlog, model, archives, runs, query, search, index, redrive, audit, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    if rest and not hasattr(chosen, "passes_on"):
        chosen.refuse(f"unrecognized arguments: {' '.join(rest)}")
    try:
        with warnings_shown():
            if hasattr(chosen, "passes_on"):
                return int(chosen.passes_on(chosen, rest))
            answer: Answer = chosen.run(chosen)
    except (LabellingError, ClientError, BotoCoreError) as err:
        complain(str(err), as_json=chosen.json)
        return 1
    except KeyboardInterrupt:
        complain("Interrupted. What was done is done; the same command goes on from there.", as_json=chosen.json)
        return 130
    say(answer, as_json=chosen.json)
    return answer.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m include.cli",
        description=__doc__,
        formatter_class=Paragraphs,
        allow_abbrev=False,
    )
    add_json(parser, default=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for module in MODULES:
        module.add(commands)
    return parser
