"""Measures one peer, and prints what came of it as one JSON object:

    measure.py PEER JOBS SECONDS

PEER is the name of a module beside this one. JOBS jobs are sent while no worker is there, then a
worker is started and works them off; afterwards single jobs are sent and waited for, for SECONDS.
Times count from the first result to the last, so that the start of a worker does not.

PEER_AMQP_URL and PEER_REDIS_URL say where the servers are, PEER_NAME is what every queue is named
after.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import redis

PATIENCE = 60
LIMIT = 150
MOST_SAMPLES = 1000


def await_end(peer, connection, job):
    deadline = time.monotonic() + PATIENCE
    while not peer.has_ended(connection, job):
        if time.monotonic() > deadline:
            raise SystemExit(f"a job has no result after {PATIENCE} s")
        time.sleep(0.005)


def give_up(_signal, _frame):
    raise SystemExit(f"not done within {LIMIT} s")


def main():
    # The worker is stopped, whatever happens.
    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, give_up)
    signal.alarm(LIMIT)
    name, jobs, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    peer = importlib.import_module(name).Peer()
    results = redis.Redis.from_url(os.environ["PEER_REDIS_URL"])
    peer.open()
    peer.send(1)
    began = time.perf_counter()
    jobs_sent = peer.send(jobs)
    sent_in = time.perf_counter() - began

    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    worker = subprocess.Popen(
        peer.worker_command(),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("PEER_VERBOSE") else subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_end(peer, results, jobs_sent[0])
        began = time.perf_counter()
        # They end nearly in their order: whoever waits for the last has not long to wait for any.
        for job in reversed(jobs_sent):
            await_end(peer, results, job)
        ran_in = time.perf_counter() - began

        for _ in range(3):
            peer.round_trip()
        times = []
        lost = 0
        until = time.perf_counter() + seconds
        while time.perf_counter() < until and len(times) < MOST_SAMPLES:
            began = time.perf_counter()
            result = peer.round_trip()
            took = (time.perf_counter() - began) * 1e6
            if result is None:
                lost += 1
                continue
            assert result == 3, result
            times.append(took)
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        peer.close()
        for key in results.scan_iter(match=f"*{os.environ['PEER_NAME']}*", count=5000):
            results.unlink(key)
        results.unlink(*(key for job in jobs_sent for key in peer.keys(job)))

    times.sort()
    print(
        json.dumps(
            {
                "enqueue_per_second": jobs / sent_in,
                "jobs_per_second": (jobs - 1) / ran_in,
                "samples": len(times),
                "lost": lost,
                "p50_us": times[len(times) // 2] if times else None,
                "p99_us": times[min(len(times) * 99 // 100, len(times) - 1)] if times else None,
            }
        )
    )


if __name__ == "__main__":
    main()
