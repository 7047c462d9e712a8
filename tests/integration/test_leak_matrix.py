from __future__ import annotations
import time

def test_normal(deployment, world):
    world.upload(12)
    t=time.time()
    run = deployment.trigger()
    state = deployment.wait(run)
    print("T", time.time()-t)
    assert state == "success"
    for t in deployment.airflow.tasks("label_images", run):
        print(t["task_id"], t["map_index"], t["state"], t["start_date"], t["end_date"], t["pid"])
    assert world.lost() == {}
    assert world.status() == "STOPPED"
    assert world.lease() is None
