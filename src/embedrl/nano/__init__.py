"""The nano models: the real Qwen3-VL architecture at four million parameters, trained on the world."""
