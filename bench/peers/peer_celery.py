"""Celery, RabbitMQ and Redis, with what its guide to optimizing says of many short tasks: a high
prefetch multiplier, and messages that are confirmed."""

import os
import sys

from celery import Celery

import broker

NAME = os.environ["PEER_NAME"]
app = Celery(NAME, broker=os.environ["PEER_AMQP_URL"], backend=os.environ["PEER_REDIS_URL"])
app.conf.update(
    task_default_queue=NAME,
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=128,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    result_expires=3600,
    # So that the run finds its own keys and takes them along.
    result_backend_transport_options={"global_keyprefix": f"{NAME}:"},
)


@app.task
def add(a, b):
    return a + b


class Peer:
    def open(self):
        pass

    def close(self):
        app.close()
        broker.delete([NAME], [NAME])

    def send(self, count):
        return [add.delay(1, 2).id for _ in range(count)]

    def keys(self, job_id):
        return [f"{NAME}:celery-task-meta-{job_id}"]

    def has_ended(self, redis, job_id):
        return redis.exists(*self.keys(job_id))

    def round_trip(self):
        return add.delay(1, 2).get(timeout=30)

    def worker_command(self):
        quiet = ["--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
        pool = ["--pool", "prefork", "--concurrency", str(os.cpu_count())]
        return [sys.executable, "-m", "celery", "-A", "peer_celery", "worker", *pool, *quiet]
