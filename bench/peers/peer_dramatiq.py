"""dramatiq, RabbitMQ and Redis, its default middleware, publishes confirmed."""

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import broker as rabbitmq

NAME = os.environ["PEER_NAME"]
backend = RedisBackend(url=os.environ["PEER_REDIS_URL"])
broker = RabbitmqBroker(url=os.environ["PEER_AMQP_URL"], confirm_delivery=True)
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=NAME, store_results=True)
def add(a, b):
    return a + b


class Peer:
    def open(self):
        pass

    def close(self):
        broker.close()
        rabbitmq.delete([NAME, f"{NAME}.DQ", f"{NAME}.XQ"])

    def send(self, count):
        return [add.send(1, 2) for _ in range(count)]

    def keys(self, message):
        return [backend.build_message_key(message)]

    def has_ended(self, redis, message):
        return redis.exists(*self.keys(message))

    def round_trip(self):
        return add.send(1, 2).get_result(block=True, timeout=30_000)

    def worker_command(self):
        size = ["--processes", str(os.cpu_count()), "--threads", "8"]
        return [sys.executable, "-m", "dramatiq", "peer_dramatiq", *size]
