"""Exported models: they judge with ONNX Runtime or OpenVINO, and nothing here imports torch."""
