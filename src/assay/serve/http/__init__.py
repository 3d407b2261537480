"""The REST front end: HTTP/1.1 on asyncio's BufferedProtocol, no framework.

``connection`` receives and answers, ``head`` parses headers, ``body`` and ``buffers`` hold bodies, ``routes`` finds
the handler, ``codec`` turns requests into ``InferRequest`` and answers into bytes, ``application`` and
``administration`` answer.
"""
