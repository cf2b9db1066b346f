"""The nano models, above the world that they train on: the real Qwen3-VL architecture at four million parameters."""
