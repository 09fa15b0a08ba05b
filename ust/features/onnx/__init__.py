"""Embeddings from any ONNX model that takes a waveform."""
