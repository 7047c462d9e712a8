from __future__ import annotations
import time

def test_x(dags, world):
    world.upload(12)
    t=time.time()
    ended = dags.run()
    print(time.time()-t, ended)
    assert ended.state == "success"
    assert world.lost() == {}
    assert world.status() == "STOPPED"
    t=time.time()
    ended = dags.run()
    print(time.time()-t, ended)
    t=time.time()
    world.upload(12, folder="b")
    ended = dags.run()
    print(time.time()-t, ended)
