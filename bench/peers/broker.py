"""Deletes what a peer has made on RabbitMQ."""

import os

import amqp
from urllib.parse import urlparse, unquote


def delete(queues=(), exchanges=()):
    url = urlparse(os.environ["PEER_AMQP_URL"])
    with amqp.Connection(
        host=f"{url.hostname}:{url.port or 5672}",
        userid=unquote(url.username or "guest"),
        password=unquote(url.password or "guest"),
        virtual_host=unquote(url.path[1:]) or "/",
    ) as connection:
        channel = connection.channel()
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)
