"""Every call of a run that changes something, by stage: where a process that dies makes a difference.

A process that dies at a call that only reads leaves what one leaves that dies after the changing call before it.
"""

from __future__ import annotations

from typing import Final

from local_stack.chaos.nursery import Kill, Nursery
from local_stack.chaos.runs import Run
from local_stack.chaos.world import World

STATE: Final = "s3 PutObject state/model/products/products-v#.json"
CALLS: Final[dict[str, tuple[str, ...]]] = {
    "drain": (
        "sqs ReceiveMessage",
        "s3 PutObject batches/pending/#-#-#.jsonl.gz",
        "sqs DeleteMessageBatch",
        "sqs SendMessage",
        "sqs DeleteMessage",
    ),
    "decide": (STATE,),
    "start_model": (STATE, "rekognition StartProjectVersion"),
    "preflight": ("s3 PutObject batches/outcomes/#/attempt-#", "s3 PutObject batches/outcomes/#/preflight.jsonl"),
    "wait_until_running": (STATE,),
    "infer": (
        "rekognition DetectCustomLabels",
        "s3 PutObject batches/outcomes/#/part-#.jsonl",
        "s3 PutObject state/inferred/#/running-since",
        "s3 PutObject state/inferred/#/#",
        "rekognition StopProjectVersion",
    ),
    "stop_model": (STATE,),
    "publish": (
        "s3 PutObject labels/*.json",
        "s3 PutObject quarantine/*.error.json",
        "s3 PutObject results/image_labels/analysis=custom_labels/dt=#/#.parquet",
        "s3 PutObject results/image_labels/_symlink_format_manifest/analysis=custom_labels/dt=#/files.txt",
        "s3 CopyObject images/*",
        "s3 CopyObject quarantine/*",
        "s3 DeleteObject inbox",
        "s3 PutObject batches/done/#/#.jsonl.gz",
        "s3 PutObject batches/outcomes/#/done",
        "s3 DeleteObject batches/pending/#-#-#.jsonl.gz",
    ),
    "report": (
        "s3 PutObject results/runs/dt=#/#.parquet",
        STATE,
        "s3 DeleteObject state/inferred/#/#",
        "s3 DeleteObject state/inferred/#/running-since",
    ),
}
CASES: Final = [(stage, call) for stage, calls in CALLS.items() for call in calls]


def first_run(world: World, nursery: Nursery, *kills: Kill) -> Run:
    """Six images in two batches, one of them no image and one uploaded twice; and a message that announces nothing."""
    world.upload(6)
    world.send_nonsense()
    return Run(world, nursery, "first", list(kills)).play()
