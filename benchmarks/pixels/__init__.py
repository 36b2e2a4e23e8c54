"""Images to measure decoders and preparation with."""
