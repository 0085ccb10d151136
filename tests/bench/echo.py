"""A bare grpcio server: the least that an answer over gRPC costs. `python -m tests.bench.echo` prints its port."""

import sys
from concurrent import futures

import grpc

METHOD = "/bench.Echo/Echo"


class _Handler(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Answers what it is sent."""
        if details.method != METHOD:
            return None
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            lambda request, context: request
        )
        return handler


def main() -> None:
    """Serves until its standard input ends."""
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[_Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()
