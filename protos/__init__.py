"""The contract between gateway and workers: ``chat.proto`` and the code generated from it (``make protos``)."""
