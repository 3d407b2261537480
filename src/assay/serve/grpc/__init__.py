"""The gRPC front end: ``inference.GRPCInferenceService`` over HTTP/2, on the server's own event loop.

Why there is no grpcio in it: docs/decisions/0201-grpc-without-grpcio.md.  ``wire`` and ``message`` read
and write ModelInfer's messages by hand, the rest go through protobuf; ``connection`` is HTTP/2,
``stream`` one call on it, ``calls`` the table of methods, ``server`` the listening socket.
"""
