"""Remove zeroed channels exactly and write a checked ONNX bundle."""
