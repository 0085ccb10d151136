"""A bare servicer that writes as many rows as an order does, in one transaction with psycopg: the least that a durable
order costs. `python -m tests.bench.inserts URL [ROWS]` makes its table there and prints its port."""

import sys
import threading
from concurrent import futures

import grpc
import psycopg

# order, item, receipt, with an event and an outbox row each, and a timer.
ROWS = 10
METHOD = "/bench.Inserts/Insert"
READ = "/bench.Inserts/Read"


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, url: str, rows: int) -> None:
        self._url = url
        self._rows = rows
        self._local = threading.local()

    def _connection(self) -> psycopg.Connection[tuple[object, ...]]:
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._url)
        connection: psycopg.Connection[tuple[object, ...]] = self._local.connection
        return connection

    def _insert(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        connection = self._connection()
        with connection.cursor() as cursor:
            for _ in range(self._rows):
                cursor.execute("INSERT INTO bench_row (body) VALUES (%s)", (request,))
        connection.commit()
        return request

    def _read(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        connection = self._connection()
        row = connection.execute("SELECT body FROM bench_row WHERE id = %s", (int(request),)).fetchone()
        connection.commit()
        return row[0] if row is not None else b""  # type: ignore[return-value]

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Inserts what it is sent, or reads the row of which it is sent the number."""
        method = {METHOD: self._insert, READ: self._read}.get(details.method)
        if method is None:
            return None
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(method)
        return handler


def main() -> None:
    """Serves until its standard input ends."""
    url, rows = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else ROWS
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bench_row (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea)"
        )
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[_Handler(url, rows)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()
