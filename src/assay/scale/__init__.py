"""The same parts on many machines: Ray Data around the pipeline, Ray Serve around the server."""
